"""Time of each operator, by the profilers of ONNX Runtime and LiteRT."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from hwnas.devices.op_profile.local import operator_times
from hwnas.devices.worker.profilers.profile import onnx_runs
from hwnas.errors import InvalidFile

NetWriter = Callable[..., Path]


@pytest.mark.parametrize("name", ["a.onnx", "a.tflite"])
def test_operator_times_name_every_convolution_and_sum_to_one(
    tmp_path: Path, write_net: NetWriter, name: str
) -> None:
    file = write_net(tmp_path / name, channels=32, layers=3, size=32)
    rows = operator_times(file, "onnxruntime" if name.endswith("onnx") else "litert")
    assert sum("Conv" in row.kind for row in rows) == 3
    assert sum(row.share for row in rows) == pytest.approx(1.0)
    assert all(row.median_ms >= 0 and row.provider for row in rows)


def test_a_run_of_the_profile_ends_with_its_model_run() -> None:
    def node(name: str, start: int) -> dict[str, Any]:
        args = {"op_name": "Conv", "provider": "CPU"}
        return {"cat": "Node", "name": f"{name}_kernel_time", "ts": start, "dur": 5, "args": args}

    run = {"cat": "Session", "name": "model_run", "ts": 0, "dur": 20}
    fence = {"cat": "Node", "name": "x_fence_before", "ts": 0, "dur": 1}
    events = [
        node("b", 2),
        node("a", 1),
        fence,
        run,
        node("a", 11),
        node("b", 12),
        run,
        node("c", 1),
    ]
    first, second = onnx_runs(events)
    assert first == second == [("a", "Conv", "CPU", 0.005), ("b", "Conv", "CPU", 0.005)]


@pytest.mark.parametrize("runtime", ["onnxruntime", "litert"])
def test_a_file_that_is_no_model_is_named_by_the_profiler(tmp_path: Path, runtime: Any) -> None:
    broken = tmp_path / "broken"
    broken.write_bytes(b"no model")
    with pytest.raises(InvalidFile, match="broken: "):
        operator_times(broken, runtime)
