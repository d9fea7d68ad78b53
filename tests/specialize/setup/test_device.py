"""The GPUs and the number of threads of trainings in separate processes."""

from __future__ import annotations

import pytest

from hwnas.processes import cores
from hwnas.specialize.setup.device import child_gpus, training_threads
from hwnas.specialize.setup.work.settle import trainings_at_once
from hwnas.training.compute import CPU, Compute


def test_trainings_take_every_gpu_unless_one_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "4,6")
    assert child_gpus("auto", Compute("cuda:0")) == ("4", "6")
    assert child_gpus("cuda", Compute("cuda:0")) == ("4", "6")
    assert child_gpus("cuda:1", Compute("cuda:1")) == ("6",)
    assert child_gpus("cuda:0", Compute("cuda:0")) == ("4",)
    assert child_gpus("auto", CPU) == ()


def test_a_plan_of_minutes_counts_the_gpus_and_not_the_trainings_that_share_one(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "0,1,2")
    assert trainings_at_once("auto", Compute("cuda:0")) == 3
    assert trainings_at_once("cuda:2", Compute("cuda:2")) == 1
    assert trainings_at_once("mps", Compute("mps")) == 1
    assert trainings_at_once("auto", CPU) == cores()


def test_trainings_on_photos_share_the_cores(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("cores", "physical_cores"):
        monkeypatch.setattr(f"hwnas.specialize.setup.device.{name}", lambda: 8)
    assert [training_threads(224, networks) for networks in (1, 3, 8, 20)] == [8, 2, 1, 1]
    assert training_threads(32, 1) == 1
