"""Time of each operator of a model file on a phone or another computer.

The native runner and the worker give samples of profiled runs; ``benchmark_model`` gives averages.
"""

from __future__ import annotations

import shlex
from pathlib import Path

import msgspec

from hwnas.devices.op_profile.local import OperatorRow, OperatorRows, OperatorTime, with_shares
from hwnas.devices.runner import Subject
from hwnas.devices.runners.benchmark_model import parse
from hwnas.devices.runners.programs import benchmark_binary, push_kit, push_worker
from hwnas.devices.runners.remote import RemoteHost
from hwnas.devices.transports.transport import CommandResult
from hwnas.devices.worker.profilers.profile import PROFILED_RUNS, WARMUP_RUNS, median_rows
from hwnas.errors import DeviceError, InvalidFile

MAX_OUTPUT_BYTES = 2**27
"""Limit of a profiler's output, which names every operator in every run."""


class NativeRun(msgspec.Struct, frozen=True):
    """One line of the native runner: the operators of one run."""

    operators: tuple[NativeOperator, ...]


class NativeOperator(msgspec.Struct, frozen=True):
    """The time of one operator in one run."""

    name: str
    kind: str
    provider: str
    elapsed_us: float


class ProfilerMessage(msgspec.Struct, frozen=True):
    """The last line of a profiler: its result or an error, with ``file`` if that is at fault."""

    result: OperatorRows | None = None
    error: str | None = None
    file: str | None = None


def remote_operator_times(host: RemoteHost, subject: Subject) -> list[OperatorTime]:
    """Profile a file on the device; returns operators in the order they run.

    Raises `InvalidFile` for a file that the runtime there refuses, `DeviceError` for anything else.
    """
    profilers = {"native": _native, "worker": _worker, "benchmark_model": _benchmark_model}
    rows = profilers[host.program](host, subject)
    if not rows or not all(0 <= row.median_ms < 1e9 for row in rows):
        raise DeviceError(f"{host.profile.name}: the profiler there reported no operators")
    return with_shares(rows)


def _native(host: RemoteHost, subject: Subject) -> list[OperatorRow]:
    program, libraries = push_kit(host.transport, host.remote, host.facts(), host.profile.runtime)
    words = [
        "env",
        f"LD_LIBRARY_PATH={libraries}",
        f"TMPDIR={host.transport.folder}",
        program,
        f"--graph={host.transport.push(subject.path)}",
        "--enable_op_profiling=true",
        f"--runs={PROFILED_RUNS}",
        f"--warmup_runs={WARMUP_RUNS}",
        f"--num_threads={host.profile.measure.threads}",
    ]
    return native_rows(_run(host, words), subject.path, host.profile.name)


def native_rows(output: CommandResult, path: Path, device: str) -> list[OperatorRow]:
    """Read the native runner's lines. Raises as `remote_operator_times`."""
    runs: list[list[tuple[str, str, str, float]]] = []
    for line in output.out.splitlines():
        _raise_reported(line, path)
        try:
            run = msgspec.json.decode(line, type=NativeRun)
        except (msgspec.DecodeError, RecursionError):
            raise DeviceError(f"{device}: the runner there wrote {line[:80]!r}") from None
        runs.append([(o.name, o.kind, o.provider, o.elapsed_us / 1e3) for o in run.operators])
    if output.status or not runs or not runs[0]:
        raise DeviceError(
            f"{device}: the profiler there ended with status {output.status}: {output.last_line}"
        )
    return msgspec.convert(median_rows(runs), list[OperatorRow])


def _worker(host: RemoteHost, subject: Subject) -> list[OperatorRow]:
    request = {
        "path": host.transport.push(subject.path),
        "runtime": subject.runtime or host.profile.runtime,
        "threads": host.profile.measure.threads,
        "shapes": subject.shapes,
    }
    output = host.transport.shell(
        shlex.join([host.remote.python, push_worker(host.transport)]),
        stdin=msgspec.json.encode({"operators": request}),
        limit_s=host.remote.limit_s,
        max_bytes=MAX_OUTPUT_BYTES,
    )
    line = (output.out.strip().splitlines() or [b""])[-1]
    _raise_reported(line, subject.path)
    message = _decode(line)
    if message is None or message.result is None:
        raise DeviceError(f"{host.profile.name}: the profiler there: {output.last_line[:300]}")
    return list(message.result.rows)


def _benchmark_model(host: RemoteHost, subject: Subject) -> list[OperatorRow]:
    words = [
        benchmark_binary(host.transport, host.remote, host.facts()),
        f"--graph={host.transport.push(subject.path)}",
        f"--num_threads={host.profile.measure.threads}",
        f"--num_runs={PROFILED_RUNS}",
        "--enable_op_profiling=true",
        *host.remote.benchmark_flags,
    ]
    result = _run(host, words)
    output = parse((result.out + b"\n" + result.err).decode(errors="replace"))
    if result.status or not output.operators:
        last = output.errors[-1] if output.errors else result.last_line
        raise DeviceError(f"{host.profile.name}: benchmark_model printed no operators: {last}")
    return [
        OperatorRow(row.name, row.kind, "benchmark_model", row.average_ms * max(row.calls, 1))
        for row in output.operators
    ]


def _run(host: RemoteHost, words: list[str]) -> CommandResult:
    return host.transport.run(words, limit_s=host.remote.limit_s, max_bytes=MAX_OUTPUT_BYTES)


def _raise_reported(line: bytes, path: Path) -> None:
    """Raise the error that a line reports, if it reports one."""
    message = _decode(line)
    if message is None or message.error is None:
        return
    if message.file is not None:
        raise InvalidFile(str(path), message.error[:300])
    raise DeviceError(message.error[:300])


def _decode(line: bytes) -> ProfilerMessage | None:
    try:
        return msgspec.json.decode(line, type=ProfilerMessage)
    except (msgspec.DecodeError, RecursionError):
        return None
