"""Finds the model file for a name: a file, a run folder or a bundle."""

from __future__ import annotations

import shlex
from pathlib import Path

from hwnas.deploy.bundle import read_bundle
from hwnas.deploy.interface import NAME as INTERFACE
from hwnas.errors import UsageError
from hwnas.networks.names import kind_of
from hwnas.pretrained.sources import WEIGHT_SUFFIXES
from hwnas.recovery import is_run, unfinished
from hwnas.report.report import Report


def find_model_file(name: str) -> Path:
    """Return the file that ``name`` means: a file, or the one in the folder of a run or bundle.

    Raises `UsageError` for a network that is not compiled, and for a run of several files.
    """
    path = Path(name)
    if path.is_dir():
        return _in_folder(path)
    if path.exists() and path.suffix not in (".json", *WEIGHT_SUFFIXES):
        return path
    kind_of(name)  # says what is near
    raise UsageError(
        f"{name}: is a network, not a model file; `hwnas export {shlex.quote(name)}` compiles it"
    )


def _in_folder(folder: Path) -> Path:
    if (folder / "report.json").exists():
        return _delivered(folder)
    if is_run(folder):
        raise unfinished(folder)
    if (folder / INTERFACE).exists():
        return folder / read_bundle(folder).model
    if (folder / "job.json").exists():
        command = shlex.join(["hwnas", "export", str(folder)])
        raise UsageError(f"{folder}: the training has no model file; `{command}` compiles it")
    raise UsageError(
        f"{folder}: expected a model file (.onnx, .tflite), a bundle or the folder of a run"
    )


def _delivered(run: Path) -> Path:
    """Return the file that a run delivered for its target."""
    results = Report.read(run / "report.json").results
    files = [run / result.artifacts[0].path for result in results if result.artifacts]
    if not files:
        raise UsageError(f"{run}: the run delivered no file")
    if len(files) > 1:
        listed = ", ".join(map(str, files))
        raise UsageError(f"{run} is a run of several targets or budgets; name a file: {listed}")
    return files[0]
