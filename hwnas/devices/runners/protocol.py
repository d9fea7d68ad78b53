"""The messages between a runner and a worker process; see `hwnas.devices.worker.main`.

Output of a device is untrusted data: every message is decoded into these types or refused.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any, cast

import msgspec

from hwnas.devices.profile import MeasureSpec
from hwnas.devices.runner import InputShape, Progress
from hwnas.errors import DeviceError, InvalidFile
from hwnas.measurement.gpu import GpuExecution, GpuState
from hwnas.measurement.measurement import Program
from hwnas.measurement.round import Round, Usage


class ModelRequest(msgspec.Struct, frozen=True):
    """A model file to time; ``path`` is on the machine that runs the worker."""

    name: str
    path: str
    runtime: str | None = None
    """``None``: the request's."""
    batch: int | None = None
    shapes: tuple[InputShape, ...] = ()


class GpuRequest(msgspec.Struct, frozen=True):
    """The GPU to use, and how; fields as in `hwnas.devices.profile.GpuSpec`."""

    provider: str
    number: int
    precision: str
    engines: str
    """Folder where TensorRT caches the engines that it builds."""


class WorkerRequest(msgspec.Struct, frozen=True):
    """What one worker process measures."""

    runtime: str
    threads: int
    affinity: tuple[int, ...] | None
    """Cores to pin to; ``None``: not pinned."""
    gpu: GpuRequest | None
    models: tuple[ModelRequest, ...]
    together: int
    """Models that are open at once, a batch; the batches are measured one after the other."""
    reference: str
    """Path of the reference model."""
    references: tuple[str, ...]
    """Paths of larger reference models, beside which larger models are timed."""
    probe: str
    """Path of the memory probe, which is timed beside the largest models; empty: none."""
    spec: MeasureSpec
    seed: int


class ModelResult(msgspec.Struct, frozen=True):
    """The timed rounds of one model file."""

    rounds: tuple[Round, ...]
    batch: int | None = None
    inputs: tuple[InputShape, ...] = ()
    """Names and shapes of the inputs, with the batch."""
    load_ms: float | None = None
    first_run_ms: float | None = None
    runtime_version: str = ""
    on_gpu: GpuExecution | None = None


class WorkerConditions(msgspec.Struct, frozen=True):
    """State of the machine while one worker process measured."""

    runtime_version: str
    affinity: tuple[int, ...] = ()
    governor: str | None = None
    frequency_mhz: float | None = None
    temperature_c: float | None = None
    load_before: float | None = None
    load_after: float | None = None
    steal_s: float | None = None
    cores: int | None = None
    programs: tuple[Program, ...] = ()
    gpu: GpuState | None = None


class WorkerResult(msgspec.Struct, frozen=True):
    """What one worker process measured; models in the order of the request."""

    models: tuple[ModelResult, ...]
    environment: WorkerConditions


def check_result(result: object, count: int, device: str) -> WorkerResult:
    """Return the result for ``count`` models. Raises `DeviceError` for an invalid one."""
    try:
        checked = msgspec.convert(result, WorkerResult)
    except msgspec.ValidationError as error:
        raise DeviceError(f"{device}: the runner's result is invalid: {error}") from None
    parts = [
        part
        for model in checked.models
        for round in model.rounds
        for part in (
            (round.samples_ms, round.usage),
            (round.reference_ms, round.reference_usage),
            *([(round.base_ms, round.base_usage)] if round.reference else []),
            *([(round.probe_ms, round.probe_usage)] if round.probe_ms else []),
        )
    ]
    samples_ms = [sample_ms for samples, _ in parts for sample_ms in samples or (0.0,)]
    if not all(_fits(usage, len(samples)) for samples, usage in parts if usage):
        raise DeviceError(
            f"{device}: the runner's result is invalid: its CPU times do not match its samples"
        )
    if len(checked.models) != count or not all(0 < sample_ms < 1e9 for sample_ms in samples_ms):
        raise DeviceError(
            f"{device}: the runner's result is invalid: {len(checked.models)} of {count} models, "
            f"samples from {min(samples_ms, default=0)} to {max(samples_ms, default=0)} ms"
        )
    return checked


def _fits(usage: Usage, calls: int) -> bool:
    """Whether there is a CPU time, a lost time and a number of switches for each call."""
    lengths = {len(usage.cpu_ms), len(usage.lost_ms), len(usage.switches)}
    return lengths == {calls} and min(*usage.cpu_ms, *usage.lost_ms, 0.0) >= 0


def read_result(
    lines: Iterable[bytes],
    device: str,
    files: Mapping[str, Path],
    failure: Callable[[str], DeviceError],
    progress: Progress | None,
) -> object:
    """Read a worker's messages up to its result, which is returned unchecked.

    Raises `InvalidFile` where the worker blames a model (``files`` has the user's path by the
    worker's), `DeviceError` for any other error that it reports, and what ``failure`` makes of
    output that is not a message or ends without a result.
    """
    for line in lines:
        message = decode_message(line)
        if message is None:
            raise failure(f"wrote {line[:80]!r}")
        if "result" in message:
            return message["result"]
        if "error" in message:
            reason = str(message["error"])[:300]
            if path := files.get(str(message.get("file"))):
                raise InvalidFile(str(path), reason)
            raise DeviceError(f"{device}: {reason}")
        if progress and _is_pair(message.get("progress")):
            progress(*message["progress"])
    raise failure("ended without a result")


def decode_message(line: bytes) -> dict[str, Any] | None:
    """Return the message in a line; ``None`` if the line is no message."""
    try:
        return msgspec.json.decode(line, type=dict[str, Any])
    except (msgspec.DecodeError, RecursionError):
        return None


def _is_pair(value: object) -> bool:
    return isinstance(value, list) and [type(n) for n in cast(list[object], value)] == [int, int]


_SHELL_STATUSES = {
    126: "not executable: built for another processor?",
    127: "not found, or a library is missing",
    132: "illegal instruction: built for another processor?",
    134: "aborted",
    139: "crashed: segmentation fault",
}


def describe_status(status: int) -> str:
    """Return an exit status in words; a shell reports a crash as 128 plus the signal."""
    meaning = f" ({_SHELL_STATUSES[status]})" if status in _SHELL_STATUSES else ""
    return f"status {status}{meaning}"
