"""How a measurement is split over worker processes."""

from __future__ import annotations

from collections import Counter

import pytest

from hwnas.architecture.runtimes import RuntimeName
from hwnas.devices.profile import DeviceProfile, Hardware, Remote
from hwnas.devices.runners.local import LocalHost
from hwnas.devices.runners.remote import RemoteHost
from hwnas.devices.runners.schedule import TOGETHER, assign_batches


def test_each_process_measures_every_model_once_beside_others() -> None:
    plan = assign_batches(150, 3, 64, seed=1)
    assert [len(models) for _, models in plan] == [64, 64, 22] * 3
    for process in range(3):
        models = [model for number, part in plan if number == process for model in part]
        assert Counter(models) == Counter(range(150))
    firsts = [set(models[:TOGETHER]) for _, models in plan[::3]]
    assert firsts[0] != firsts[1] != firsts[2]
    assert plan == assign_batches(150, 3, 64, seed=1)


@pytest.mark.parametrize(
    ("transport", "program", "runtime", "most"),
    [
        ("ssh", None, "onnxruntime", 64),
        ("ssh", None, "litert", 16),
        ("adb", None, "onnxruntime", 16),
        ("adb", "benchmark_model", "litert", 16),
    ],
)
def test_only_the_worker_measures_many_models_of_onnx_runtime_in_a_process(
    transport: str, program: str | None, runtime: RuntimeName, most: int
) -> None:
    profile = DeviceProfile(
        name="board",
        title="board",
        kind="cpu",
        runtime=runtime,
        transport=transport,  # type: ignore[arg-type]
        hardware=Hardware(source="invented"),
        remote=Remote(host="board", program=program),  # type: ignore[arg-type]
    )
    assert RemoteHost(profile).models_per_process == most
    assert LocalHost(profile).models_per_process == (64 if runtime == "onnxruntime" else 16)
