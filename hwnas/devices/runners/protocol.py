"""What a process on a device says: its result, checked, since output of a device is data."""

from __future__ import annotations

from typing import Any

import msgspec

from hwnas.errors import DeviceError
from hwnas.measurement.measurement import Gpu, OnGpu, Round


class Said(msgspec.Struct, frozen=True):
    """What one process on the device measured."""

    class Model(msgspec.Struct, frozen=True):
        rounds: tuple[Round, ...]
        load_ms: float | None = None
        first_run_ms: float | None = None
        runtime_version: str = ""
        on_gpu: OnGpu | None = None

    class Conditions(msgspec.Struct, frozen=True):
        runtime_version: str
        affinity: tuple[int, ...] = ()
        governor: str | None = None
        frequency_mhz: float | None = None
        temperature_c: float | None = None
        load_before: float | None = None
        load_after: float | None = None
        steal_s: float | None = None
        gpu: Gpu | None = None

    models: tuple[Model, ...]
    environment: Conditions


def checked(result: object, count: int, device: str) -> Said:
    """Return the result of measuring ``count`` models. Raises `DeviceError` for a wrong one."""
    try:
        said = msgspec.convert(result, Said)
    except msgspec.ValidationError as error:
        raise DeviceError(f"{device}: the runner's result is wrong: {error}") from None
    samples = [
        sample
        for model in said.models
        for one in model.rounds
        for part in (one.samples_ms, one.reference_ms)
        for sample in part or (0.0,)
    ]
    if len(said.models) != count or not all(0 < sample < 1e9 for sample in samples):
        raise DeviceError(
            f"{device}: the runner's result is wrong: {len(said.models)} of {count} "
            f"models, samples from {min(samples, default=0)} to {max(samples, default=0)} ms"
        )
    return said


def decoded(line: bytes) -> dict[str, Any] | None:
    """Return a line as a message, None for one that is none."""
    try:
        return msgspec.json.decode(line, type=dict[str, Any])
    except (msgspec.DecodeError, RecursionError):
        return None


def is_pair(value: object) -> bool:
    return isinstance(value, list) and [type(one) for one in value] == [int, int]  # type: ignore[misc]


_STATUSES = {
    126: "not executable: built for another processor?",
    127: "not found, or a library is missing",
    132: "illegal instruction: built for another processor?",
    134: "aborted",
    139: "crashed: segmentation fault",
}


def status_in_words(status: int) -> str:
    """Return a status in words: a shell gives a crash as 128 and the signal."""
    return f"status {status}" + (f" ({_STATUSES[status]})" if status in _STATUSES else "")
