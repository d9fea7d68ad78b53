"""Runners measure the latency of model files on a device."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Protocol, Self

import msgspec

from hwnas import plugins
from hwnas.architecture.runtimes import RUNTIMES, RuntimeName
from hwnas.devices.external_data import check_present
from hwnas.devices.profile import DeviceProfile
from hwnas.errors import DeviceError, UsageError
from hwnas.files import check_suffix, file_sha256
from hwnas.measurement.measurement import Environment, Measurement
from hwnas.shipped import shipped

Progress = Callable[[int, int], None]
"""Called with the numbers of visits done and planned; more are planned while models are not
steady."""


LARGER_SIZES = (96,)
"""Height and width of the larger reference model, about 1 to 3 ms; the reference's is 28."""
PROBE_SIZE = 320
"""Height and width of the memory probe, about 20 to 30 ms; its values exceed the caches."""


class InputShape(msgspec.Struct, frozen=True):
    """Shape of an input of a model file, for files that take any size."""

    name: str | None
    """None: the next input in order."""
    shape: tuple[int, ...]
    """Without the batch, in the file's order of axes."""


class Subject(msgspec.Struct, frozen=True):
    """A model file to measure."""

    name: str
    path: Path
    runtime: RuntimeName | None = None
    """``None``: the profile's."""
    batch: int | None = None
    """Inputs per call; None: the file's own batch, or 1 if it accepts any."""
    shapes: tuple[InputShape, ...] = ()
    """Shapes of inputs of any size."""


class Runner(Protocol):
    """Measures model files on one device. A context manager: leaving it calls `close`.

    Making one connects to nothing; all other methods raise `DeviceError` for a device that does
    not answer.
    """

    def probe(self) -> Environment:
        """Return the device's hardware and runtime. Raises if either is missing."""
        ...

    def measure(
        self,
        subjects: Sequence[Subject],
        *,
        calibrated_reference_ms: float | None = None,
        seed: int = 0,
        progress: Progress | None = None,
    ) -> list[Measurement]:
        """Measure all files interleaved, in fresh processes; results are in the order given."""
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
            f"{profile.name}: its profile has no connection (no [remote] table), so nothing can be "
            "measured there; use it as a target with a known latency model, or copy the profile "
            "and add [remote]"
        )
    return plugins.load("runner", profile.runner or profile.transport)(profile)


def reference_file(runtime: RuntimeName) -> Path:
    """Return the shipped reference model in the format of a runtime."""
    file = Path(str(shipped("export") / "kits" / f"reference{RUNTIMES[runtime].suffix}"))
    if not file.is_file():
        raise DeviceError(f"{file}: the reference model is missing; reinstall hwnas")
    return file


def larger_references(runtime: RuntimeName) -> list[Path]:
    """Return the shipped reference models of larger inputs, the smallest first.

    They are for CPUs. A slow network is compared with a slow reference, since changes of the clock
    rate affect both alike. No reference exceeds the caches: otherwise its latency would depend on
    other users of the memory, by up to 11 % on a quiet virtual machine.
    """
    files = [_reference_of(size, runtime) for size in LARGER_SIZES]
    return [file for file in files if file.is_file()]


def memory_probe(runtime: RuntimeName) -> Path | None:
    """Return the shipped model whose values exceed the caches: it shows what other programs do to
    the latency of such networks."""
    file = _reference_of(PROBE_SIZE, runtime)
    return file if file.is_file() else None


def _reference_of(size: int, runtime: RuntimeName) -> Path:
    name = f"reference_{size}{RUNTIMES[runtime].suffix}"
    return Path(str(shipped("export") / "kits" / name))


def check_file(subject: Subject, profile: DeviceProfile) -> None:
    """Raise `UsageError` for a file that does not exist or is not in the target's format."""
    try:
        str(subject.path).encode()
    except UnicodeEncodeError:
        raise UsageError(
            f"{printable(str(subject.path))}: its name is not in UTF-8; rename it"
        ) from None
    runtime = subject.runtime or profile.runtime
    suffix = RUNTIMES[runtime].suffix
    if subject.path.suffix != suffix:
        check_suffix(subject.path, [suffix])
        raise UsageError(f"{subject.path}: {profile.name} runs {runtime} and takes {suffix} files")
    check_present(subject.path)


def printable(file: str) -> str:
    """Return a file name with escapes for characters that terminals, XML or UTF-8 do not allow."""
    text = file.encode("utf-8", "backslashreplace").decode()
    return "".join(c if c.isprintable() else f"\\x{ord(c):02x}" for c in text)


def reference_sha256(runtime: RuntimeName) -> str:
    return file_sha256(reference_file(runtime))
