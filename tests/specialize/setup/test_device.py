"""Which GPUs trainings in processes of their own may take."""

from __future__ import annotations

import pytest

from hwnas.specialize.setup.device import child_gpus
from hwnas.training.compute import CPU, Compute


def test_trainings_take_every_gpu_unless_one_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "4,6")
    assert child_gpus("auto", Compute("cuda:0")) == ("4", "6")
    assert child_gpus("cuda", Compute("cuda:0")) == ("4", "6")
    assert child_gpus("cuda:1", Compute("cuda:1")) == ("6",)
    assert child_gpus("cuda:0", Compute("cuda:0")) == ("4",)
    assert child_gpus("auto", CPU) == ()
