"""Architectures as users name them: a file, the folder of a run or training, a published name."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import msgspec

from hwnas.architecture.architecture import Architecture, Genotype
from hwnas.errors import HwnasError, InvalidFile, UnknownName, UsageError
from hwnas.files import read_json
from hwnas.networks.folder import architecture_in
from hwnas.spaces.cells.genotype import CellGenotype, published_cells, read_genotype
from hwnas.spaces.find import find_space
from hwnas.spaces.published import published, published_names

MODEL_SUFFIXES = (".onnx", ".tflite")


def resolve_architecture(
    name: str,
    space: str = "mobile",
    input_shape: tuple[int, int, int] | None = None,
    num_classes: int | None = None,
) -> Architecture:
    """Return the architecture that ``name`` means.

    ``space``, ``input_shape`` and ``num_classes`` complete a genotype, which states no shapes; the
    name of published cells is a genotype. Raises `UsageError` for anything else.
    """
    path = Path(name)
    if path.is_dir():
        return architecture_in(path)
    if path.suffix == ".safetensors":
        from hwnas.networks.weights import described

        return described(path).architecture
    if path.suffix in MODEL_SUFFIXES:
        from hwnas.export.metadata.architecture import read_embedded

        return read_embedded(path)
    if path.suffix == ".json":
        return _from_json(path, space, input_shape, num_classes)
    if name in published_names():
        return published(name).architecture
    if name in published_cells():
        cells = published_cells()[name].genotype
        return _place(cells, "cells", input_shape, num_classes)
    if path.exists() or "/" in name:
        raise InvalidFile(
            name,
            "expected a .json, .onnx, .tflite or .safetensors file, or the folder of a run or "
            "training",
        )
    known = [*published_names(), *published_cells()]
    raise UnknownName("published network (or file)", name, known)


def is_genotype(name: str) -> bool:
    """Return whether ``name`` means a genotype, whose input shape and classes the data gives."""
    path = Path(name)
    if path.suffix == ".json" and path.is_file():
        return read_json(path, _Keys).blocks is None
    return name in published_cells() and not path.exists()


def read_architecture(path: Path) -> Architecture:
    """Read the JSON of an architecture. Raises `InvalidFile` that names a wrong field."""
    return read_json(path, Architecture)


class _Keys(msgspec.Struct):
    """The keys that tell the kinds of JSON files apart."""

    blocks: object = None
    choices: object = None
    normal: object = None


def _from_json(
    path: Path, space: str, input_shape: tuple[int, int, int] | None, num_classes: int | None
) -> Architecture:
    keys = read_json(path, _Keys)
    if keys.blocks is not None:
        return read_architecture(path)
    if keys.choices is not None:
        genotype = read_json(path, Genotype)
        return _place(genotype, genotype.space or space, input_shape, num_classes, str(path))
    if keys.normal is not None:
        cells = read_genotype(path.read_bytes(), str(path))
        return _place(cells, "cells", input_shape, num_classes, str(path))
    raise InvalidFile(
        str(path),
        "is neither an architecture (blocks) nor a genotype (space and choices, or normal and "
        "reduction)",
    )


def _place(
    genotype: Genotype | CellGenotype,
    space: str,
    input_shape: tuple[int, int, int] | None,
    num_classes: int | None,
    file: str = "",
) -> Architecture:
    """Return the architecture of a genotype; errors name ``file``, if it is given."""
    if input_shape is None or num_classes is None:
        raise UsageError("a genotype states no shapes: give --data for input shape and classes")
    search_space: Any = find_space(space, input_shape, num_classes)  # cells take both kinds
    try:
        return search_space.architecture(genotype)
    except HwnasError as error:
        raise InvalidFile(file, str(error)) if file else error from None
