"""Tree spaces in TOML files with ``family = "tree"`` (fields: `hwnas/spaces/trees`).

The file has the number of cells and the widths; image size and classes come from the data. A wrong
or unknown field is an error with the file, the field and what was expected.
"""

from __future__ import annotations

import hashlib
from importlib.resources import files
from importlib.resources.abc import Traversable
from pathlib import Path
from typing import Annotated, Literal

import msgspec

from hwnas.errors import InvalidFile
from hwnas.files import decode_toml, read_bytes
from hwnas.spaces.mobile.toml_file import Positive, Sizes
from hwnas.spaces.tree.space import EDGES, TreeSpace

Edge = Literal["sep3", "sep5", "sep7", "dil3", "skip", "avg3", "max3"]
Width = Annotated[int, msgspec.Meta(ge=8)]


class TreeFile(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """The content of a TOML file."""

    family: Literal["tree"]
    name: Annotated[str, msgspec.Meta(pattern=r"^[a-z0-9][a-z0-9_.-]*$")]
    title: str
    source: str = ""
    resolution: Sizes
    cells: Annotated[tuple[Positive, ...], msgspec.Meta(min_length=1)]
    """Number of cells in each stage; all stages but the first begin with a stride of 2."""
    stem_width: Positive = 16
    base_width: Width = 64
    """Width from which the blocks grow to ``last_width``."""
    last_width: Width = 400
    candidates: Annotated[tuple[Edge, ...], msgspec.Meta(min_length=1)] = tuple(EDGES)  # type: ignore[assignment]


def tree_names() -> list[str]:
    """Return the names of the trees that come with hwnas."""
    return sorted(
        file.name.removesuffix(".toml")
        for file in _shipped().iterdir()
        if file.name.endswith(".toml")
    )


def tree_space(name: str, input_shape: tuple[int, int, int], num_classes: int) -> TreeSpace:
    """Return the space of a file or shipped name for images of ``input_shape``.

    Its name has the digest of the file, so that no measurement of another version is used for it.
    Raises `UsageError` for an image size that the file does not allow.
    """
    file = Path(name) if name.endswith(".toml") else _shipped() / f"{name}.toml"
    text = read_bytes(file)
    tree = decode_toml(text, TreeFile, str(file))
    if len(set(tree.candidates)) < len(tree.candidates):
        raise InvalidFile(str(file), "expected each candidate once - at `$.candidates`")
    tree.resolution.check(name, input_shape)
    digest = hashlib.sha256(text).hexdigest()[:6]
    return TreeSpace(
        name=f"{tree.name}-{digest}",
        input_shape=input_shape,
        num_classes=num_classes,
        cells=tree.cells,
        stem_width=tree.stem_width,
        base_width=tree.base_width,
        last_width=tree.last_width,
        candidates=tree.candidates,
    )


def _shipped() -> Traversable:
    return files("hwnas.spaces") / "trees"
