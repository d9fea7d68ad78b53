"""Deletes from finished runs the files that were needed only to make the results.

Delivered files, reports, journals, logs, and the weights of the delivered networks stay.
"""

from __future__ import annotations

from pathlib import Path

import msgspec

from hwnas.errors import UsageError
from hwnas.files import lock_folder, write_json
from hwnas.measurement.measurement import local_time
from hwnas.recovery import CONFIG, is_run
from hwnas.report.report import Report
from hwnas.specialize.housekeeping.listing import REPORT, state_of
from hwnas.specialize.run_folder import CLEANED

SEARCH = "checkpoints of the search"
CHILDREN = "networks that the search trained"
OTHERS = "weights and files of networks that were not delivered"
LEFT = "copies, damaged and temporary files"


class Part(msgspec.Struct, frozen=True):
    """Files of one kind that may be deleted."""

    name: str
    files: tuple[Path, ...]
    size_bytes: int


def deletable(run: Path) -> list[Part]:
    """Return the files that may be deleted in the folder of a finished run.

    Raises `UsageError` for a folder that is no run, and for a run that is running or unfinished,
    which needs its checkpoints.
    """
    if not is_run(run):
        raise UsageError(f"{run}: not the folder of a run, it has no {CONFIG}")
    state = state_of(run)
    if state == "running":
        raise UsageError(f"{run}: a process is working in it; clean it when it has ended")
    if state == "interrupted":
        raise UsageError(
            f"{run}: the run has not finished and needs its checkpoints; continue with: hwnas "
            f"specialize --resume --out {run}, or delete the folder"
        )
    parts: dict[str, list[Path]] = {}
    delivered = _delivered(run)
    for path in sorted(run.rglob("*")):
        if path.is_file() and (name := _part_of(path.relative_to(run), delivered)):
            parts.setdefault(name, []).append(path)
    return [
        Part(name, tuple(files), sum(file.lstat().st_size for file in files))
        for name, files in parts.items()
    ]


def clean(run: Path) -> list[Part]:
    """Delete the files of `deletable`, and return them. The run cannot be resumed afterwards."""
    parts = deletable(run)
    with lock_folder(run):
        write_json(run / CLEANED, {"cleaned": local_time()})
        for part in parts:
            for path in part.files:
                path.unlink(missing_ok=True)
    return parts


def _delivered(run: Path) -> set[str]:
    """Return the digests of the networks that a run and its parts delivered."""
    return {
        result.architecture.digest
        for report in run.rglob(REPORT)
        for result in Report.read(report).results
    }


def _part_of(path: Path, delivered: set[str]) -> str | None:
    """Return the kind of a file, relative to its run, that may be deleted; else ``None``."""
    folders, name = path.parts[:-1], path.name
    if name.endswith((".damaged", ".tmp")):
        return LEFT
    if folders[-2:-1] == ("training",):
        if path.suffix not in (".safetensors", ".onnx", ".tflite"):
            return None
        if folders[-1] not in delivered:
            return OTHERS
        return LEFT if name.startswith(("model.", "checkpoint")) else None
    if path.suffix != ".safetensors":
        return None
    if "checkpoints" in folders:
        return SEARCH
    return CHILDREN if "search" in folders else None
