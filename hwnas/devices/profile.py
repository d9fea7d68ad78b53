"""Device profiles: one TOML file describes one device and how to measure on it."""

from __future__ import annotations

import os
from collections.abc import Iterator
from importlib.resources.abc import Traversable
from pathlib import Path
from typing import Annotated, Literal

import msgspec

from hwnas.errors import InvalidFile, UnknownName, UsageError
from hwnas.shipped import shipped

Runtime = Literal["onnxruntime", "litert"]
Count = Annotated[int, msgspec.Meta(ge=1)]
Positive = Annotated[float, msgspec.Meta(gt=0)]
NotNegative = Annotated[float, msgspec.Meta(ge=0)]


class Hardware(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What the vendor says. For the machine in front of you the probe fills it in."""

    source: str
    isa: str | None = None
    clock_hz: int | None = None
    cores: int | None = None
    l2_bytes: int | None = None
    ram_bytes: int | None = None


class Limits(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What the device can run; an architecture outside is rejected before search."""

    model_bytes: int | None = None
    ops: tuple[str, ...] | None = None
    dtypes: tuple[Literal["float32", "int8"], ...] = ("float32",)


class MeasureSpec(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """How a latency must be taken on this device to be comparable."""

    threads: Count = 1
    warmup_runs: Annotated[int, msgspec.Meta(ge=0)] = 5
    """Calls of every model before anything is timed, at least."""
    warmup_s: NotNegative = 0.5
    """Length of the warm-up of a batch of models, at least."""
    processes: Count = 5
    """Fresh processes over which a model's rounds are spread, each in other company: the ratio of
    two models differs from one process to the next by a percent or three, however many rounds each
    takes, and the same for the same models in the same order."""
    runs: Count = 7
    """Timed calls of a model, and of the reference beside it, in one round."""
    min_rounds: Count = 10
    max_rounds: Count = 40
    ci: NotNegative = 0.02
    """Stop when the 95 % interval's half-width is below this share of the median."""
    max_s: NotNegative = 60.0
    """Stop a batch after this time, but not before ``min_rounds``."""
    pin: bool = True


class Simulation(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A device that exists only as arithmetic, for trying out and for tests."""

    call_ms: NotNegative
    """Cost of an empty call."""
    op_ms: NotNegative
    """Cost of each operator beside its arithmetic."""
    macs_per_ms: Positive
    """Speed of dense and pointwise convolutions and of the linear layer."""
    depthwise_macs_per_ms: Positive
    noise: NotNegative = 0.0
    """Relative standard deviation of a single call; deterministic in file and call number."""


class DeviceProfile(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """One device, one runtime, one way to measure."""

    name: str
    title: str
    kind: Literal["cpu", "gpu", "android", "simulated"]
    runtime: Runtime
    transport: Literal["local", "adb", "ssh", "simulated"]
    hardware: Hardware
    default_input: tuple[int, int, int] | None = None
    """Input shape that the device's latency table covers; ``None``: that of the data."""
    limits: Limits = Limits()
    measure: MeasureSpec = MeasureSpec()
    simulation: Simulation | None = None


def read_profile(file: Traversable) -> DeviceProfile:
    """Read one profile; a wrong or unknown field is named with its path."""
    try:
        profile = msgspec.toml.decode(file.read_bytes(), type=DeviceProfile)
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise InvalidFile(str(file), str(error)) from None
    except OSError as error:
        raise InvalidFile(str(file), error.strerror or str(error)) from None
    stem = file.name.removesuffix(".toml")
    spec = profile.measure
    if profile.name != stem:
        why = f"Expected name {stem!r} as the file's, got {profile.name!r} - at `$.name`"
    elif (profile.transport == "simulated") != (profile.simulation is not None):
        why = (
            'Expected a [simulation] table exactly where transport = "simulated"'
            " - at `$.simulation`"
        )
    elif spec.max_rounds < spec.min_rounds:
        why = (
            f"Expected at least min_rounds = {spec.min_rounds}, got {spec.max_rounds}"
            " - at `$.measure.max_rounds`"
        )
    else:
        return profile
    raise InvalidFile(str(file), why)


def find_profile(name: str) -> DeviceProfile:
    """Return a profile by path (has ``/`` or ends in ``.toml``), else by name."""
    if "/" in name or name.endswith(".toml"):
        return read_profile(Path(name))
    files = {file.name.removesuffix(".toml"): file for file in profile_files()}
    if name not in files:
        raise UnknownName("device", name, files)
    return read_profile(files[name])


def profile_files() -> Iterator[Traversable]:
    """Yield all known profiles; those in ``$HWNAS_DEVICES`` come last and so win."""
    yield from _toml_files(shipped("devices"))
    if own := os.environ.get("HWNAS_DEVICES"):
        if not Path(own).is_dir():
            raise UsageError(f"HWNAS_DEVICES: {own} is not a folder")
        yield from _toml_files(Path(own))


def _toml_files(folder: Traversable) -> list[Traversable]:
    files = [file for file in folder.iterdir() if file.name.endswith(".toml")]
    return sorted(files, key=lambda file: file.name)
