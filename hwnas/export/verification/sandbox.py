"""Runs a model file that may be damaged: in a process of its own, which a runtime may crash."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Any

import msgspec
import numpy as np

from hwnas.architecture.artifact import Format
from hwnas.errors import DeviceError, ExportError, InvalidFile
from hwnas.export.verification.run_model import file_outputs
from hwnas.processes import run_json_child, serve_json

Array = np.ndarray[Any, Any]
TIMEOUT_S = 600.0


class SandboxRequest(msgspec.Struct, frozen=True):
    """A file to run on the images in ``folder``, where its outputs go as well."""

    path: str
    format: Format
    folder: str


def foreign_outputs(path: Path, format: Format, images: Array) -> Array:
    """Return what `file_outputs` does. Raises `ExportError`, also where the runtime crashes."""
    with tempfile.TemporaryDirectory() as folder:
        np.save(Path(folder) / "images.npy", images)
        request = SandboxRequest(str(path), format, folder)
        try:
            run_json_child(__name__, request, bool, name="its runtime", timeout_s=TIMEOUT_S)
        except (DeviceError, InvalidFile) as error:
            reason = str(error)
            if not reason.startswith(str(path)):
                reason = f"{path}: {reason}; is the file damaged?"
            raise ExportError(reason) from None
        return np.load(Path(folder) / "outputs.npy", allow_pickle=False)


def _save_outputs(request: SandboxRequest) -> bool:
    folder = Path(request.folder)
    images = np.load(folder / "images.npy", allow_pickle=False)
    np.save(folder / "outputs.npy", file_outputs(Path(request.path), request.format, images))
    return True


if __name__ == "__main__":
    serve_json(_save_outputs, SandboxRequest)
