"""Search spaces by name: from a plug-in, from a file that comes with hwnas, or from a TOML file."""

from __future__ import annotations

from pathlib import Path

import msgspec

from hwnas.errors import InvalidFile, UnknownName
from hwnas.plugins import load, names
from hwnas.spaces.cells.sizes import sized_cells
from hwnas.spaces.grown.toml_file import plain_file_space
from hwnas.spaces.mobile.toml_file import chain_names, chain_space
from hwnas.spaces.space import SearchSpace
from hwnas.spaces.tree.toml_file import tree_names, tree_space

FAMILIES = {None: chain_space, "plain": plain_file_space, "tree": tree_space}
"""Readers of TOML files by their field ``family``."""


def find_space(name: str, input_shape: tuple[int, int, int], num_classes: int) -> SearchSpace:
    """Return the space of a name or file for images of ``input_shape`` (channels, height, width).

    Raises `UnknownName`, `InvalidFile`, or the space's own `UsageError`.
    """
    if name.endswith(".toml"):
        return FAMILIES[_family(name)](name, input_shape, num_classes)
    if (cells := sized_cells(name, input_shape, num_classes)) is not None:
        return cells
    if name in tree_names():
        return tree_space(name, input_shape, num_classes)
    if name in chain_names():
        return chain_space(name, input_shape, num_classes)
    if name not in names("space"):
        known = [*names("space"), *chain_names(), *tree_names()]
        raise UnknownName("space (or .toml file)", name, known)
    return load("space", name)(input_shape, num_classes)


class _Family(msgspec.Struct):
    family: object = None


def _family(file: str) -> str | None:
    """Return the family of a file; None for an unreadable one, which its reader will report."""
    try:
        family = msgspec.toml.decode(Path(file).read_bytes(), type=_Family).family
    except (OSError, msgspec.DecodeError, UnicodeDecodeError):
        return None
    if family is not None and family not in FAMILIES:
        expected = " or ".join(f'"{name}"' for name in FAMILIES if name)
        raise InvalidFile(file, f"expected {expected} or none, got {family!r} - at `$.family`")
    return family  # type: ignore[return-value]
