"""Architectures by name (`hwnas.networks.names`)."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import msgspec

from hwnas.architecture.architecture import Architecture, Genotype
from hwnas.errors import HwnasError, InvalidFile, UsageError
from hwnas.files import read_json
from hwnas.networks.folder import architecture_in
from hwnas.networks.names import kind_of
from hwnas.spaces.cells.genotype import CellGenotype, published_cells, read_genotype
from hwnas.spaces.find import find_space
from hwnas.spaces.published import published, published_names


def resolve_architecture(
    name: str,
    space: str = "mobile",
    input_shape: tuple[int, int, int] | None = None,
    num_classes: int | None = None,
) -> Architecture:
    """Return the architecture that ``name`` refers to, in any form of `hwnas.networks.names`.

    ``space``, ``input_shape`` and ``num_classes`` complete a genotype, which states no shapes; the
    name of published cells is a genotype. A module of the user's own code needs ``input_shape``.
    Raises `UsageError` if it is no network, or does not consist of hwnas's blocks.
    """
    path = Path(name)
    match kind_of(name):
        case "published":
            return _published(name)
        case "cells":
            cells = published_cells()[name].genotype
            return _place(cells, "cells", input_shape, num_classes)
        case "folder":
            return architecture_in(path)
        case "json":
            return _from_json(path, space, input_shape, num_classes)
        case "model":
            from hwnas.export.metadata.architecture import read_embedded

            return read_embedded(path)
        case "weights":
            return _of_weights(path)
        case "timm":
            from hwnas.pretrained.hub import load_timm

            return load_timm(name).architecture
        case "module":
            return _of_module(name, input_shape)
        case "program":
            raise UsageError(
                f"{name}: a program of torch.export has no blocks; `hwnas export` compiles it"
            )


def is_genotype(name: str) -> bool:
    """Return whether ``name`` refers to a genotype, whose input shape and classes come from the
    data."""
    kind = kind_of(name)
    return kind == "cells" or (kind == "json" and read_json(Path(name), _Keys).blocks is None)


def states_no_shape(name: str) -> bool:
    """Return whether ``name`` refers to a genotype or to a module of the user's code."""
    return is_genotype(name) or kind_of(name) == "module"


def read_architecture(path: Path) -> Architecture:
    """Read the JSON of an architecture. Raises `InvalidFile` that names a wrong field."""
    return read_json(path, Architecture)


def _published(name: str) -> Architecture:
    if name in published_names():
        return published(name).architecture
    from hwnas.pretrained.load import source_architecture
    from hwnas.pretrained.sources import find_source

    return source_architecture(find_source(name))


def _of_weights(path: Path) -> Architecture:
    from hwnas.pretrained.identify import load_file
    from hwnas.training.description import read_description

    description = read_description(path) if path.suffix == ".safetensors" else None
    return load_file(path).architecture if description is None else description.architecture


def _of_module(name: str, input_shape: tuple[int, int, int] | None) -> Architecture:
    from hwnas.networks.factory import user_module
    from hwnas.pretrained.recognise.network import recognise

    if input_shape is None:
        raise UsageError(f"{name}: a module of your own needs --input-shape, e.g. 3x224x224")
    return recognise(user_module(name), input_shape, name).architecture


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
