"""Time of each operator inside a model file, by the profilers of ONNX Runtime and of LiteRT.

A profiled run is slower than a timed one, so use the shares; latencies come from `Runner.measure`.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import msgspec

from hwnas.architecture.runtimes import RuntimeName
from hwnas.devices.runner import InputShape
from hwnas.devices.worker.profilers.profile import profile
from hwnas.processes import run_json_child, serve_json


class OperatorRow(msgspec.Struct, frozen=True):
    """One operator as a profiler reports it."""

    name: str
    kind: str
    provider: str
    median_ms: float


class OperatorRows(msgspec.Struct, frozen=True):
    """The result of profiling one file."""

    rows: tuple[OperatorRow, ...]


class OperatorTime(msgspec.Struct, frozen=True):
    """One operator of the runtime's own graph, after its fusions."""

    name: str
    kind: str
    """The runtime's name for the operator, e.g. ``FusedConv`` or ``Convolution (NHWC, F32)
    GEMM``."""
    median_ms: float
    share: float
    """Part of the sum over all operators, 0 to 1."""
    provider: str
    """What computes it, e.g. ``CPUExecutionProvider`` or ``XNNPACK``."""


def operator_times(
    path: Path, runtime: RuntimeName, threads: int = 1, shapes: Sequence[InputShape] = ()
) -> list[OperatorTime]:
    """Profile a file in a fresh process; returns operators in the order they run.

    Raises `InvalidFile` for a file that the runtime refuses, `DeviceError` where the runtime or its
    profiler is missing.
    """
    request = {
        "path": str(path),
        "runtime": runtime,
        "threads": threads,
        "shapes": tuple(shapes),
    }
    return with_shares(run_json_child(__name__, request, OperatorRows).rows)


def with_shares(rows: Sequence[OperatorRow]) -> list[OperatorTime]:
    """Return profiled operators with the share of each in the total."""
    total_ms = sum(row.median_ms for row in rows) or 1.0
    return [
        OperatorTime(row.name, row.kind, row.median_ms, row.median_ms / total_ms, row.provider)
        for row in rows
    ]


if __name__ == "__main__":
    serve_json(profile)
