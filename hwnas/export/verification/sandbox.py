"""Runs a model file that may be damaged in a child process, because its runtime may crash."""

from __future__ import annotations

import tempfile
from pathlib import Path

import msgspec
import numpy as np

from hwnas.errors import DeviceError, ExportError, InvalidFile
from hwnas.export.verification.metrics import Array
from hwnas.export.verification.run_model import file_outputs
from hwnas.processes import run_json_child, serve_json

TIMEOUT_S = 600.0


class SandboxRequest(msgspec.Struct, frozen=True):
    """A file to run on the images in ``folder``, where its outputs are written as well."""

    path: str
    folder: str


def sandboxed_outputs(path: Path, images: Array) -> Array:
    """Return the same as `file_outputs`. A crash of the runtime is an `ExportError`, too."""
    with tempfile.TemporaryDirectory() as folder:
        np.save(Path(folder) / "images.npy", images)
        request = SandboxRequest(str(path), folder)
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
    np.save(folder / "outputs.npy", file_outputs(Path(request.path), images))
    return True


if __name__ == "__main__":
    serve_json(_save_outputs, SandboxRequest)
