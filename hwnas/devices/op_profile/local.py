"""Time of each operator inside a model file, by the profilers of ONNX Runtime and of LiteRT.

A profiled run is slower than a timed one, so the shares are what counts; latencies come from
`Runner.measure`.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import msgspec

from hwnas.architecture.runtimes import RuntimeName
from hwnas.devices.runners.child_process import answer, ask_child
from hwnas.devices.worker.profilers.profile import profile


class OperatorTime(msgspec.Struct, frozen=True):
    """One operator of the runtime's own graph, i.e. after its fusions."""

    name: str
    kind: str
    """As the runtime calls it, e.g. ``FusedConv`` or ``Convolution (NHWC, F32) GEMM``."""
    median_ms: float
    share: float
    """Of the sum over all operators."""
    provider: str
    """What computes it, e.g. ``CPUExecutionProvider`` or ``XNNPACK``."""


def operator_times(path: Path, runtime: RuntimeName, threads: int = 1) -> list[OperatorTime]:
    """Profile a file in a fresh process; operators in the order they run.

    Raises `InvalidFile` for a file that the runtime refuses, `DeviceError` where the runtime or its
    profiler is missing.
    """
    request = {"path": str(path), "runtime": runtime, "threads": threads}
    return shared_out(ask_child("hwnas.devices.op_profile.local", request)["rows"])


def shared_out(rows: Sequence[dict[str, Any]]) -> list[OperatorTime]:
    """Return rows of name, kind, provider and ``median_ms`` with the share of each."""
    total_ms = sum(row["median_ms"] for row in rows) or 1.0
    return [OperatorTime(share=row["median_ms"] / total_ms, **row) for row in rows]


if __name__ == "__main__":
    answer(profile)
