"""Runs a model file that may be damaged: in a process of its own, which a runtime may crash."""

from __future__ import annotations

import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import numpy as np

from hwnas.architecture.artifact import Format
from hwnas.errors import ExportError
from hwnas.export.verification.run_model import file_outputs

Array = np.ndarray[Any, Any]
TIMEOUT_S = 600.0


def foreign_outputs(path: Path, format: Format, images: Array) -> Array:
    """Return what `file_outputs` does. Raises `ExportError`, for a crash of the runtime as well."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        np.save(folder / "images.npy", images)
        command = [sys.executable, "-m", __name__, str(path), format, str(folder)]
        try:
            done = subprocess.run(command, capture_output=True, text=True, timeout=TIMEOUT_S)
        except subprocess.TimeoutExpired:
            raise ExportError(f"{path}: its runtime did not end in {TIMEOUT_S:g} s") from None
        if done.returncode < 0:
            raise ExportError(
                f"{path}: its runtime crashed on it (signal {-done.returncode}); is it damaged?"
            )
        if done.returncode:
            said = done.stderr.strip().splitlines() or ["it said nothing"]
            raise ExportError(said[-1])
        return np.load(folder / "outputs.npy", allow_pickle=False)


def main() -> int:
    path, format, folder = sys.argv[1:]
    images = np.load(Path(folder) / "images.npy", allow_pickle=False)
    try:
        outputs = file_outputs(Path(path), format, images)  # type: ignore[arg-type]
    except ExportError as error:
        print(error, file=sys.stderr)
        return 1
    except Exception as error:  # whatever a runtime makes of a damaged file
        print(f"{path}: {type(error).__name__}: {str(error).splitlines()[:1]}", file=sys.stderr)
        return 1
    np.save(Path(folder) / "outputs.npy", outputs)
    return 0


if __name__ == "__main__":
    sys.exit(main())
