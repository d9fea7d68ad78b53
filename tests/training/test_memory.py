"""Devices of child processes, and a GPU whose memory is full; without a GPU."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from hwnas.errors import HwnasError
from hwnas.training.compute import CPU, Compute, memory_errors, visible_gpus
from hwnas.training.loop import train
from hwnas.training.plan import TrainingPlan
from tests.support.tiny import tiny_data


class TooLarge(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.zeros(1))

    def forward(self, images: Tensor) -> Tensor:
        raise torch.cuda.OutOfMemoryError("CUDA out of memory. Tried to allocate 20.00 GiB.\n...")


def test_a_training_that_fills_a_gpu_ends_with_one_line_that_has_its_images() -> None:
    plan = TrainingPlan(epochs=1, batch_size=16, accumulate=2)
    message = (
        "^cpu is out of memory: a step of 8 images doesn't fit, one of 4 may; the last.*there$"
    )
    with pytest.raises(HwnasError, match=message):
        train(TooLarge(), tiny_data(32), plan, seed=0)


def test_other_errors_stay_as_they_are() -> None:
    with pytest.raises(ValueError, match="other"), memory_errors("cuda:0", 8):
        raise ValueError("other")


def test_a_child_process_computes_on_the_first_gpu_that_it_sees() -> None:
    assert Compute("cuda:3", "bf16", 8).of_child() == Compute("cuda:0", "bf16", 1)
    assert Compute(threads=8).of_child() == CPU


def test_visible_gpus_have_the_names_of_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "2,GPU-5f1e")
    assert visible_gpus() == ["2", "GPU-5f1e"]
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES")
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 3)
    assert visible_gpus() == ["0", "1", "2"]
