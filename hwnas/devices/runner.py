"""Runners: what measures model files on a device, whatever the way to it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from hashlib import sha256
from pathlib import Path
from typing import Any, Protocol, Self

import msgspec

from hwnas import plugins
from hwnas.architecture.runtimes import RUNTIMES, RuntimeName
from hwnas.devices.profile import DeviceProfile, Gpu
from hwnas.errors import DeviceError, UsageError
from hwnas.measurement.measurement import Environment, Measurement
from hwnas.shipped import shipped

Progress = Callable[[int, int], None]
"""Called with visits done and visits in sight; the second may grow while models are unsteady."""


class Subject(msgspec.Struct, frozen=True):
    """A model file to be measured."""

    name: str
    path: Path
    runtime: RuntimeName | None = None
    """Other than the profile's, where a device has both; ``None``: the profile's."""
    batch: int = 1
    """Inputs that one call computes; the file must take them."""


class Runner(Protocol):
    """Measures model files on one device. A context manager: leaving it calls `close`.

    Making one connects to nothing; all other methods raise `DeviceError` for a device that does
    not answer.
    """

    def probe(self) -> Environment:
        """Return what the device is and runs; raises if device or runtime are missing."""
        ...

    def measure(
        self,
        subjects: Sequence[Subject],
        *,
        calibrated_reference_ms: float | None = None,
        seed: int = 0,
        progress: Progress | None = None,
    ) -> list[Measurement]:
        """Measure all files interleaved in one fresh process; results in the order given."""
        ...

    def close(self) -> None:
        """Release connections and temporary files; a second call does nothing."""
        ...

    def __enter__(self) -> Self: ...

    def __exit__(self, *error: object) -> None: ...


def open_runner(profile: DeviceProfile) -> Runner:
    """Return the runner that a profile names, else that of its transport.

    Use it as ``with open_runner(profile) as runner:``.
    """
    if not profile.reachable:
        raise DeviceError(
            f"{profile.name}: its profile says no way to it (no [remote] table), so nothing can be "
            "measured there; it can be a target where a latency model of it is known, or copy the "
            "profile and add [remote]"
        )
    return plugins.load("runner", profile.runner or profile.transport)(profile)


def reference_file(runtime: RuntimeName) -> Path:
    """Return the shipped reference model in the format of a runtime."""
    file = Path(str(shipped("export") / "kits" / f"reference{RUNTIMES[runtime].suffix}"))
    if not file.is_file():
        raise DeviceError(f"{file}: the reference model is missing; install hwnas again")
    return file


def check_file(subject: Subject, profile: DeviceProfile) -> None:
    """Raise `UsageError` for a file that is not there or not in the target's format."""
    runtime = subject.runtime or profile.runtime
    wanted = RUNTIMES[runtime].suffix
    if subject.path.suffix != wanted:
        raise UsageError(f"{subject.path}: {profile.name} runs {runtime} and takes {wanted} files")
    if not subject.path.is_file():
        raise UsageError(f"{subject.path}: no such file")


def gpu_request(gpu: Gpu | None, engines: str) -> dict[str, Any] | None:
    """Return what the worker is told of a GPU; ``engines`` keeps TensorRT's, a folder there."""
    if gpu is None:
        return None
    return {
        "provider": gpu.provider,
        "number": gpu.number,
        "precision": gpu.precision,
        "engines": engines,
    }


def file_sha256(path: Path) -> str:
    return sha256(path.read_bytes()).hexdigest()
