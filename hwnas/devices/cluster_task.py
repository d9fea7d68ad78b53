"""The task of a node of a Ray cluster: measure model files on a device that the node reaches.

`hwnas.devices.runners.cluster` sends the requests. Model files and results travel as bytes, so the
nodes need no shared folder.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from tempfile import TemporaryDirectory

import msgspec

from hwnas.architecture.runtimes import RuntimeName
from hwnas.devices.external_data import files_beside
from hwnas.devices.profile import find_profile
from hwnas.devices.runner import InputShape, Subject, open_runner
from hwnas.errors import DeviceLost, HwnasError, InvalidFile
from hwnas.measurement.disturbance import Disturbed
from hwnas.measurement.measurement import Environment, Measurement


class MeasureSettings(msgspec.Struct, frozen=True):
    """Arguments of `Runner.measure`."""

    calibrated_reference_ms: float | None = None
    seed: int = 0


class ModelFile(msgspec.Struct, frozen=True):
    """A model file as it is sent to a node."""

    name: str
    file: str
    """Its path on the machine that sent it, for messages."""
    runtime: RuntimeName | None
    batch: int | None
    shapes: tuple[InputShape, ...]
    content: bytes
    beside: dict[str, bytes]
    """Contents of its external weight files, by name."""


class TaskRequest(msgspec.Struct, frozen=True):
    """The device and the files to measure on it; without files the device is probed."""

    device: str
    files: tuple[ModelFile, ...]
    settings: MeasureSettings


class TaskAnswer(msgspec.Struct, frozen=True):
    """The results of a task, or the error that ended it."""

    environment: Environment | None = None
    measurements: tuple[Measurement | None, ...] = ()
    disturbed: str = ""
    """Message of `Disturbed`."""
    lost: str = ""
    """Message of `DeviceLost`."""
    invalid: tuple[str, str] | None = None
    """Path of an invalid file, and what is wrong with it."""
    error: str = ""
    """Message of any other error."""


def packed_file(subject: Subject) -> ModelFile:
    """Read a model file and the files of its weights."""
    path = subject.path
    return ModelFile(
        subject.name,
        str(path),
        subject.runtime,
        subject.batch,
        subject.shapes,
        path.read_bytes(),
        {file.name: file.read_bytes() for file in files_beside(path)},
    )


def run_task(request: bytes) -> bytes:
    """Carry out an encoded `TaskRequest`, and return the encoded `TaskAnswer`."""
    work = msgspec.msgpack.decode(request, type=TaskRequest)
    return msgspec.msgpack.encode(_measured(work))


def _measured(work: TaskRequest) -> TaskAnswer:
    with TemporaryDirectory() as scratch:
        subjects = [
            _written(file, Path(scratch) / str(number)) for number, file in enumerate(work.files)
        ]
        files = {
            str(subject.path): file.file for subject, file in zip(subjects, work.files, strict=True)
        }
        try:
            with open_runner(find_profile(work.device)) as runner:
                if not subjects:
                    return TaskAnswer(runner.probe())
                measured = runner.measure(
                    subjects,
                    calibrated_reference_ms=work.settings.calibrated_reference_ms,
                    seed=work.settings.seed,
                )
                return TaskAnswer(measurements=tuple(measured))
        except Disturbed as error:
            return TaskAnswer(measurements=error.measurements, disturbed=_named(error, files))
        except DeviceLost as error:
            return TaskAnswer(lost=_named(error, files))
        except InvalidFile as error:
            return TaskAnswer(invalid=(files.get(error.file, error.file), error.why))
        except HwnasError as error:
            return TaskAnswer(error=_named(error, files))


def _named(error: HwnasError, files: Mapping[str, str]) -> str:
    """Return the message, with the paths that the files have on the machine that sent them."""
    text = str(error)
    for there, here in files.items():
        text = text.replace(there, here)
    return text


def _written(file: ModelFile, folder: Path) -> Subject:
    folder.mkdir()
    path = folder / f"model{Path(file.file).suffix}"
    path.write_bytes(file.content)
    for name, content in file.beside.items():
        (folder / name).write_bytes(content)
    return Subject(file.name, path, file.runtime, file.batch, file.shapes)
