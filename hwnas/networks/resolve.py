"""A network as a user names it: a JSON file, a run folder, a model file, or a published name."""

from __future__ import annotations

from pathlib import Path
from typing import Any, TypeVar

import msgspec

from hwnas.architecture.architecture import Architecture, Genotype
from hwnas.errors import HwnasError, InvalidFile, UnknownName, UsageError
from hwnas.spaces.cells.genotype import CellGenotype, published_cells, read_genotype
from hwnas.spaces.find import find_space
from hwnas.spaces.published import published, published_names

FILES = (".onnx", ".tflite")
T = TypeVar("T")


def find_network(
    what: str, space: str = "mobile", input_shape: tuple[int, int, int] | None = None,
    num_classes: int | None = None,
) -> Architecture:  # fmt: skip
    """Return the network that ``what`` names.

    ``space``, ``input_shape`` and ``num_classes`` are for genotypes, which say no shapes; a name of
    published cells is one. Raises `UsageError` for what is none of these.
    """
    path = Path(what)
    if path.is_dir():
        found = path / "search" / "architecture.json"
        if not found.exists():
            raise InvalidFile(what, "is no finished run (no search/architecture.json)")
        return read_architecture(found)
    if path.suffix in FILES:
        from hwnas.export.metadata.architecture import read_embedded

        return read_embedded(path)
    if path.suffix == ".json":
        return _from_json(path, space, input_shape, num_classes)
    if what in published_names():
        return published(what).architecture
    if what in published_cells():
        cells = published_cells()[what].genotype
        return _placed(cells, "cells", input_shape, num_classes)
    if path.exists() or "/" in what:
        raise InvalidFile(what, "expected a .json, .onnx or .tflite file, or a run folder")
    known = [*published_names(), *published_cells()]
    raise UnknownName("published network (or file)", what, known)


def needs_shape(what: str) -> bool:
    """Whether ``what`` is a genotype, whose input size and classes the data must give."""
    path = Path(what)
    if path.suffix == ".json" and path.is_file():
        return _decoded(path, _Keys).blocks is None
    return what in published_cells() and not path.exists()


def read_architecture(path: Path) -> Architecture:
    """Read an architecture's JSON. Raises `InvalidFile` naming the wrong field."""
    return _decoded(path, Architecture)


class _Keys(msgspec.Struct):
    """Which of the kinds of JSON a file is."""

    blocks: object = None
    choices: object = None
    normal: object = None


def _from_json(
    path: Path, space: str, input_shape: tuple[int, int, int] | None, num_classes: int | None
) -> Architecture:
    keys = _decoded(path, _Keys)
    if keys.blocks is not None:
        return read_architecture(path)
    if keys.choices is not None:
        genotype = _decoded(path, Genotype)
        return _placed(genotype, genotype.space or space, input_shape, num_classes, str(path))
    if keys.normal is not None:
        cells = read_genotype(path.read_bytes(), str(path))
        return _placed(cells, "cells", input_shape, num_classes, str(path))
    raise InvalidFile(
        str(path), "is neither an architecture (blocks) nor a genotype (space and choices, or "
        "normal and reduction)"
    )  # fmt: skip


def _placed(
    genotype: Genotype | CellGenotype,
    space: str,
    input_shape: tuple[int, int, int] | None,
    num_classes: int | None,
    file: str = "",
) -> Architecture:
    if input_shape is None or num_classes is None:
        raise UsageError("a genotype says no shapes: --data gives input size and classes")
    made: Any = find_space(space, input_shape, num_classes)  # cells take genotypes of two kinds
    try:
        return made.architecture(genotype)
    except HwnasError as error:
        raise InvalidFile(file, str(error)) if file else error from None


def _decoded(path: Path, kind: type[T]) -> T:
    try:
        return msgspec.json.decode(path.read_bytes(), type=kind)
    except (msgspec.DecodeError, UnicodeDecodeError, UsageError) as error:
        raise InvalidFile(str(path), str(error)) from None
    except OSError as error:
        raise InvalidFile(str(path), error.strerror or str(error)) from None
