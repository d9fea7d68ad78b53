"""Time of each operator on a phone or a host, by whatever measures there.

Samples of profiled runs, with the device's own runtime; of ``benchmark_model`` its averages.
"""

from __future__ import annotations

import shlex
from pathlib import Path
from typing import Any

import msgspec

from hwnas.devices.op_profile.local import OperatorTime, shared_out
from hwnas.devices.runner import Subject
from hwnas.devices.runners.benchmark_model import parse
from hwnas.devices.runners.programs import benchmark_binary, push_kit, push_worker
from hwnas.devices.runners.remote import RemoteRunner
from hwnas.devices.transports.transport import Answer
from hwnas.devices.worker.profilers.profile import PROFILED_RUNS, WARMUP_RUNS, rows_of
from hwnas.errors import DeviceError, InvalidFile

LONGEST = 2**27
"""Bytes of an answer that are read, at most: every run names every operator."""


class Run(msgspec.Struct, frozen=True):
    """One line of the native runner: the operators of one run."""

    class Operator(msgspec.Struct, frozen=True):
        name: str
        kind: str
        provider: str
        elapsed_us: float

    operators: tuple[Operator, ...]


class Row(msgspec.Struct, frozen=True):
    """What the worker says of an operator."""

    name: str
    kind: str
    provider: str
    median_ms: float


class Said(msgspec.Struct, frozen=True):
    class Result(msgspec.Struct, frozen=True):
        rows: tuple[Row, ...]

    result: Result | None = None
    error: str | None = None
    file: str | None = None


def operator_times_there(runner: RemoteRunner, subject: Subject) -> list[OperatorTime]:
    """Profile a file on the device; operators in the order they run.

    Raises `InvalidFile` for a file that the runtime there refuses, `DeviceError` for all else.
    """
    ways = {"native": _native, "worker": _worker, "benchmark_model": _benchmark_model}
    rows = ways[runner.program](runner, subject)
    if not rows or not all(0 <= row["median_ms"] < 1e9 for row in rows):
        raise DeviceError(f"{runner.profile.name}: the profiler there reported no operators")
    return shared_out(rows)


def _native(runner: RemoteRunner, subject: Subject) -> list[dict[str, Any]]:
    program, libraries = push_kit(
        runner.transport, runner.remote, runner.facts(), runner.profile.runtime
    )
    there = runner.transport.push(subject.path)
    words = [
        "env", f"LD_LIBRARY_PATH={libraries}", f"TMPDIR={runner.transport.folder}", program,
        f"--graph={there}", "--enable_op_profiling=true", f"--runs={PROFILED_RUNS}",
        f"--warmup_runs={WARMUP_RUNS}", f"--num_threads={runner.profile.measure.threads}",
    ]  # fmt: skip
    return native_rows(_run(runner, words), subject.path, runner.profile.name)


def native_rows(said: Answer, path: Path, device: str) -> list[dict[str, Any]]:
    """Read the native runner's lines. Raises as `operator_times_there`."""
    runs: list[list[tuple[str, str, str, float]]] = []
    for line in said.out.splitlines():
        _refuse(line, path)
        try:
            found = msgspec.json.decode(line, type=Run)
        except (msgspec.DecodeError, RecursionError):
            raise DeviceError(f"{device}: the runner there wrote {line[:80]!r}") from None
        runs.append([(o.name, o.kind, o.provider, o.elapsed_us / 1e3) for o in found.operators])
    if said.status or not runs or not runs[0]:
        raise DeviceError(
            f"{device}: the profiler there ended with status {said.status}: {said.last_words}"
        )
    return rows_of(runs)


def _worker(runner: RemoteRunner, subject: Subject) -> list[dict[str, Any]]:
    there = runner.transport.push(subject.path)
    runtime = subject.runtime or runner.profile.runtime
    asked = {"path": there, "runtime": runtime, "threads": runner.profile.measure.threads}
    words = [runner.remote.python, push_worker(runner.transport)]
    said = runner.transport.shell(
        shlex.join(words),
        stdin=msgspec.json.encode({"operators": asked}),
        limit_s=runner.remote.limit_s,
        most_bytes=LONGEST,
    )
    line = said.out.strip().splitlines()[-1:] or [b""]
    _refuse(line[0], subject.path)
    try:
        found = msgspec.json.decode(line[0], type=Said)
    except (msgspec.DecodeError, RecursionError):
        found = Said()
    if found.result is None:
        why = found.error or said.last_words
        raise DeviceError(f"{runner.profile.name}: the profiler there: {why[:300]}")
    return [msgspec.structs.asdict(row) for row in found.result.rows]


def _benchmark_model(runner: RemoteRunner, subject: Subject) -> list[dict[str, Any]]:
    there = runner.transport.push(subject.path)
    words = [
        benchmark_binary(runner.transport, runner.remote, runner.facts()), f"--graph={there}",
        f"--num_threads={runner.profile.measure.threads}", f"--num_runs={PROFILED_RUNS}",
        "--enable_op_profiling=true", *runner.remote.benchmark_flags,
    ]  # fmt: skip
    said = _run(runner, words)
    output = parse((said.out + b"\n" + said.err).decode(errors="replace"))
    if said.status or not output.operators:
        last = output.errors[-1] if output.errors else said.last_words
        raise DeviceError(f"{runner.profile.name}: benchmark_model printed no operators: {last}")
    return [
        {
            "name": one.name,
            "kind": one.kind,
            "provider": "benchmark_model",
            "median_ms": one.average_ms * max(one.calls, 1),
        }
        for one in output.operators
    ]


def _run(runner: RemoteRunner, words: list[str]) -> Answer:
    return runner.transport.run(words, limit_s=runner.remote.limit_s, most_bytes=LONGEST)


def _refuse(line: bytes, path: Path) -> None:
    """Raise `InvalidFile` where an answer blames the model file."""
    try:
        said = msgspec.json.decode(line, type=Said)
    except (msgspec.DecodeError, RecursionError):
        return
    if said.error is not None and said.file is not None:
        raise InvalidFile(str(path), said.error[:300])
    if said.error is not None:
        raise DeviceError(said.error[:300])
