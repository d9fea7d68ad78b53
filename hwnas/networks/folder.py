"""Folders of runs and of trainings: the network in them, and the file of its weights."""

from __future__ import annotations

from pathlib import Path

import msgspec

from hwnas.architecture.architecture import Architecture
from hwnas.errors import InvalidFile
from hwnas.files import read_json
from hwnas.recovery import is_run, unfinished

CHECKPOINT = "network.safetensors"
"""Name of the weights in the folder of a training."""
DELIVERED = Path("search") / "architecture.json"
"""The network that a run delivers, in its folder."""
SWEEPS = ("scenarios", "variants")
"""Folders of the runs of a sweep, in its folder."""


class _Job(msgspec.Struct, frozen=True):
    """The field of a training's ``job.json`` that is read here."""

    architecture: Architecture


def architecture_in(folder: Path) -> Architecture:
    """Return the network that a run delivered, or the network of a training.

    Raises `InvalidFile` for a run that has none, or several.
    """
    if (folder / DELIVERED).exists():
        return read_json(folder / DELIVERED, Architecture)
    if (folder / "job.json").exists():
        return read_json(folder / "job.json", _Job).architecture
    runs = [run for sweep in SWEEPS for run in sorted((folder / sweep).glob("*")) if run.is_dir()]
    if runs:
        listed = ", ".join(map(str, runs))
        raise InvalidFile(str(folder), f"is a run of several networks; name a single one: {listed}")
    if is_run(folder):
        raise unfinished(folder)
    raise InvalidFile(
        str(folder), f"is no folder of a run or of a training (no {DELIVERED}, no job.json)"
    )


def weights_in(folder: Path) -> Path | None:
    """Return the file with the weights of `architecture_in`; None if it does not exist (yet)."""
    path = folder / CHECKPOINT
    if (folder / DELIVERED).exists():
        path = folder / "training" / architecture_in(folder).digest / CHECKPOINT
    return path if path.exists() else None
