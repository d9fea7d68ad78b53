"""Runs a model file that may be damaged in a child process, because its runtime may crash."""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from io import BytesIO
from pathlib import Path

import msgspec
import numpy as np

from hwnas.errors import DeviceError, ExportError, InvalidFile
from hwnas.export.verification.metrics import Array
from hwnas.export.verification.run_model import run_file
from hwnas.files import writing
from hwnas.processes import run_json_child, serve_json

TIMEOUT_S = 600.0


class SandboxRequest(msgspec.Struct, frozen=True):
    """A file to run on the inputs in ``folder``, where its outputs are written as well."""

    path: str
    folder: str
    names: tuple[str, ...]
    """Names of the inputs."""


def sandboxed_outputs(
    path: Path, inputs: Sequence[Array], names: Sequence[str] = ()
) -> dict[str, Array]:
    """Return the same as `run_file`. A crash of the runtime is an `ExportError`, too."""
    with tempfile.TemporaryDirectory() as folder, writing(Path(folder)):
        _store(Path(folder) / "inputs.npz", inputs)
        request = SandboxRequest(str(path), folder, tuple(names))
        try:
            outputs = run_json_child(
                __name__, request, tuple[str, ...], name="its runtime", timeout_s=TIMEOUT_S
            )
        except (DeviceError, InvalidFile) as error:
            reason = str(error)
            if not reason.startswith(str(path)):
                reason = f"{path}: {reason}; is the file damaged?"
            raise ExportError(reason) from None
        return dict(zip(outputs, _load(Path(folder) / "outputs.npz"), strict=True))


def _save_outputs(request: SandboxRequest) -> tuple[str, ...]:
    folder = Path(request.folder)
    outputs = run_file(Path(request.path), _load(folder / "inputs.npz"), request.names)
    _store(folder / "outputs.npz", list(outputs.values()))
    return tuple(outputs)


def _store(file: Path, arrays: Sequence[Array]) -> None:
    content = BytesIO()  # an archive can't be closed on a full disk
    np.savez(content, *arrays)
    file.write_bytes(content.getbuffer())


def _load(file: Path) -> list[Array]:
    with np.load(file, allow_pickle=False) as arrays:
        return [arrays[name] for name in arrays.files]


if __name__ == "__main__":
    serve_json(_save_outputs, SandboxRequest)
