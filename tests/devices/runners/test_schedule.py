"""How a measurement is split over worker processes."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import pytest

from hwnas.architecture.runtimes import RuntimeName
from hwnas.devices.profile import DeviceProfile, Hardware, MeasureSpec, Remote
from hwnas.devices.runner import Subject
from hwnas.devices.runners.local import LocalHost
from hwnas.devices.runners.protocol import WorkerRequest
from hwnas.devices.runners.remote import RemoteHost
from hwnas.devices.runners.schedule import TOGETHER, assign_batches
from hwnas.devices.runners.worker import WorkerRunner


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
    ("transport", "program", "runtime", "of_a_file", "most"),
    [
        ("local", None, "onnxruntime", None, 64),
        ("local", None, "onnxruntime", "litert", 16),
        ("local", None, "litert", None, 16),
        ("ssh", None, "onnxruntime", None, 64),
        ("ssh", None, "litert", None, 16),
        ("adb", None, "onnxruntime", None, 16),
        ("adb", "benchmark_model", "litert", None, 16),
    ],
)
def test_only_the_worker_measures_many_models_of_onnx_runtime_in_a_process(
    transport: str,
    program: str | None,
    runtime: RuntimeName,
    of_a_file: RuntimeName | None,
    most: int,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    profile = DeviceProfile(
        name="board",
        title="board",
        kind="cpu",
        runtime=runtime,
        transport=transport,  # type: ignore[arg-type]
        hardware=Hardware(source="invented"),
        measure=MeasureSpec(processes=1, pin=False),
        remote=Remote(host="board", program=program),  # type: ignore[arg-type]
    )
    sizes: list[int] = []

    def run(request: WorkerRequest, progress: object) -> object:
        sizes.append(len(request.models))
        models = [{"rounds": ()} for _ in request.models]
        return {"models": models, "environment": {"runtime_version": "1"}}

    host = LocalHost(profile) if transport == "local" else RemoteHost(profile)
    monkeypatch.setattr(host, "run", run)
    monkeypatch.setattr(host, "can_be_lost", False)
    subjects = [Subject(str(number), Path("a"), None) for number in range(69)]
    subjects.append(Subject("last", Path("a"), of_a_file))
    WorkerRunner(profile, host, Path("reference"))._run_all(subjects, 0, None)
    assert (max(sizes), sum(sizes)) == (most, 70)
