"""Names of networks: every command resolves them alike, without importing torch."""

from __future__ import annotations

import os
from collections.abc import Iterable
from pathlib import Path
from typing import Literal

from hwnas.errors import InvalidFile, UnknownName, UsageError, nearest
from hwnas.files import check_suffix
from hwnas.pretrained.sources import (
    TIMM_PREFIXES,
    WEIGHT_SUFFIXES,
    is_source,
    sources,
    why_unsupported,
)
from hwnas.spaces.cells.genotype import published_cells
from hwnas.spaces.published import published_names

Kind = Literal[
    "published", "cells", "timm", "folder", "json", "weights", "model", "program", "module"
]
"""A network's name (with or without weights), the name of published cells, a network of timm, the
folder of a run or training, an architecture or genotype, weights, a compiled file, a program of
`torch.export`, or a factory of the user's code."""

SUFFIXES: dict[str, Kind] = {
    ".json": "json",
    **dict.fromkeys(WEIGHT_SUFFIXES, "weights"),
    ".onnx": "model",
    ".tflite": "model",
    ".pt2": "program",
}

FORMS = (
    "a run's or training's folder, a .json, .onnx, .tflite, .pt2 or weights file, module:factory"
)


def kind_of(name: str) -> Kind:
    """Return the kind of network that ``name`` refers to.

    A published name takes precedence over a folder of that name, which is ``./NAME``. Raises
    `UsageError`, with the nearest name or file, if it refers to no network.
    """
    path = Path(name)
    if name.startswith(TIMM_PREFIXES):
        return "timm"
    if is_published(name):
        return "published"
    if name in published_cells():
        return "cells"
    if path.is_dir():
        return "folder"
    if path.suffix in SUFFIXES:
        if not path.is_file():
            raise no_such_file(name)
        return SUFFIXES[path.suffix]
    if ":" in name and not path.exists():
        _check_factory(name)
        return "module"
    if name.endswith(".py") or Path(f"{name}.py").is_file():
        raise UsageError(
            f"{name}: expected module:factory for a module of your own, e.g. {module_name(name)}:"
            "NAME (run in its folder)"
        )
    if path.exists():
        check_suffix(path, SUFFIXES)
        raise InvalidFile(name, f"is no network; expected {FORMS}, or a network's name")
    if "/" in name:
        raise no_such_file(name)
    if reason := why_unsupported(name):
        raise UsageError(f"{name}: not supported, {reason}")
    near = nearest(name, [*network_names(), *_entries(Path())])
    if near is not None and near not in network_names():
        raise no_such_file(name)
    raise UnknownName("network, file or folder", name, network_names())


def is_published(name: str) -> bool:
    """Return whether a published network has this name, with or without weights."""
    return name in published_names() or is_source(name)


def network_names() -> list[str]:
    """Return the names of all published networks and cells."""
    named = (*published_names(), *(source.name for source in sources()), *published_cells())
    return list(dict.fromkeys(named))


def no_such_file(name: str) -> InvalidFile:
    """Return the error for a missing path, with the most similar file name in its folder."""
    path = Path(name)
    if path.is_symlink():
        return InvalidFile(name, f"is a link to {os.readlink(path)}, which does not exist")
    near = nearest(path.name, _entries(path.parent))
    hint = f", did you mean {path.parent / near}?" if near else ""
    what = "no such file" if path.suffix in SUFFIXES else "no such file or folder"
    return InvalidFile(name, f"{what}{hint or f'; expected {FORMS}'}")


def module_name(file: str) -> str:
    """Return the name under which a Python file is imported from its folder."""
    return Path(file).name.removesuffix(".py") or "MODULE"


def _check_factory(name: str) -> None:
    module, _, factory = name.partition(":")
    if not module or not factory or "/" in module or module.endswith(".py"):
        example = f"{module_name(module)}:{factory or 'NAME'}"
        raise UsageError(f"{name}: expected module:factory, e.g. {example}")


def _entries(folder: Path) -> Iterable[str]:
    """Return the names of the folders, and of the files that may hold a network, in a folder."""
    try:
        return [
            entry.name
            for entry in folder.iterdir()
            if entry.suffix in SUFFIXES or (entry.is_dir() and not entry.name.startswith("."))
        ]
    except OSError:
        return []
