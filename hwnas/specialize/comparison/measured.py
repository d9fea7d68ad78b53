"""Delivered files of a comparison, measured beside each other on their target."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import groupby
from pathlib import Path

import msgspec

from hwnas.benchmarking.run import Benchmark, BenchmarkRequest
from hwnas.devices.profile import find_profile
from hwnas.devices.runner import Progress
from hwnas.errors import InvalidFile, UsageError
from hwnas.files import file_sha256
from hwnas.measurement.measurement import Measurement, compare
from hwnas.specialize.comparison.compare import Comparison, LatencyRatio, Pair
from hwnas.specialize.comparison.runs import Entry


def measured(
    comparison: Comparison,
    entries: Sequence[Entry],
    progress: Progress | None = None,
    wait_idle_s: float = 0.0,
) -> Comparison:
    """Return the comparison with latencies that are measured now, interleaved.

    Files of the same target are measured together. Raises `UsageError` if no two results have the
    same target, `InvalidFile` for a file that is missing or not the delivered one, and the errors
    of a benchmark.
    """
    by_target = sorted(entries, key=lambda entry: entry.result.target)
    groups = [list(group) for _, group in groupby(by_target, lambda entry: entry.result.target)]
    groups = [group for group in groups if len(group) > 1]
    if not groups:
        names = ", ".join(entry.result.target for entry in entries)
        raise UsageError(f"--measure: no two results have the same target: {names}")
    for group in groups:
        for entry in group:
            check_delivered(entry)
    for group in groups:
        comparison = _with_latencies(comparison, _measurements(group, progress, wait_idle_s))
    return comparison


def check_delivered(entry: Entry) -> Path:
    """Return the delivered file. Raises `InvalidFile` if it is missing or another one."""
    if entry.file is None:
        raise UsageError(f"--measure: {entry.name} delivered no file")
    if not entry.file.exists():
        raise InvalidFile(str(entry.file), "no such file; expected the file that the run delivered")
    if file_sha256(entry.file) != entry.result.artifacts[0].sha256:
        raise InvalidFile(str(entry.file), "not the file that the run delivered, its hash differs")
    return entry.file


def _measurements(
    group: Sequence[Entry], progress: Progress | None, wait_idle_s: float
) -> dict[str, Measurement]:
    """Return the measurement of each result of one target, by its name."""
    request = BenchmarkRequest(
        files=tuple(str(entry.file) for entry in group),
        target=_target(group[0]),
        wait_idle_s=wait_idle_s,
    )
    benchmark = Benchmark(request, progress)
    result = benchmark.run()
    benchmark.check(result)
    return dict(zip((entry.name for entry in group), result.measurements, strict=True))


def _target(entry: Entry) -> str:
    """Return the name or the profile file of the target, as in the run's specification."""
    for target in entry.spec.targets if entry.spec else ():
        if find_profile(target).name == entry.result.target:
            return target
    return entry.result.target


def _with_latencies(comparison: Comparison, measured: dict[str, Measurement]) -> Comparison:
    pairs: list[Pair] = []
    for pair in comparison.pairs:
        if pair.first in measured and pair.second in measured:
            result = compare(measured[pair.second], measured[pair.first])
            ratio = LatencyRatio(ratio=result.ratio, ci95=(result.low, result.high), tie=result.tie)
            pair = msgspec.structs.replace(pair, latency=ratio, latency_note="")
        pairs.append(pair)
    rows = [
        msgspec.structs.replace(
            row, together_ms=measured[row.run].median_ms, together_kind=measured[row.run].kind
        )
        if row.run in measured
        else row
        for row in comparison.rows
    ]
    return msgspec.structs.replace(comparison, rows=tuple(rows), pairs=tuple(pairs))
