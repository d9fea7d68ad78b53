"""A space as a user names it: a plug-in, a chain that comes with hwnas, or a TOML file."""

from __future__ import annotations

from hwnas.errors import UnknownName
from hwnas.plugins import load, names
from hwnas.spaces.chain_file import chain_names, chain_space
from hwnas.spaces.plain_file import is_plain_file, plain_file_space
from hwnas.spaces.space import SearchSpace


def find_space(name: str, input_shape: tuple[int, int, int], num_classes: int) -> SearchSpace:
    """Return the space of a name or file for images of ``input_shape`` (channels, height, width).

    Raises `UnknownName` with the nearest name, `InvalidFile`, or the space's own `UsageError`.
    """
    if name.endswith(".toml") and is_plain_file(name):
        return plain_file_space(name, input_shape, num_classes)
    if name.endswith(".toml") or name in chain_names():
        return chain_space(name, input_shape, num_classes)
    if name not in names("space"):
        raise UnknownName("space (or .toml file)", name, [*names("space"), *chain_names()])
    return load("space", name)(input_shape, num_classes)
