"""A training that is killed within an epoch ends as the undisturbed one, whatever the plan adds."""

from __future__ import annotations

from pathlib import Path

import msgspec
import pytest
import torch
from torch import Tensor

import hwnas.training.loop
from hwnas.nn.build import Network, build
from hwnas.training.images.augment import Augmentation
from hwnas.training.log import EpochLog, Progress
from hwnas.training.loop import train
from hwnas.training.plan import TrainingPlan
from tests.support.machines.killed import Killed
from tests.support.tiny import tiny_data, tiny_space

SIZE = 32
SPACE = tiny_space(size=SIZE)
PLAN = TrainingPlan(epochs=3, batch_size=8, augmentation=Augmentation(min_crop_area=0.3))
DATA, VALID = tiny_data(32, SIZE), tiny_data(24, SIZE, seed=1)
PLANS = {
    "rates": {"layer_decay": 0.7, "head_rate": 3.0},
    "probe": {"probe": True},
    "norms": {"frozen_norms": True},
    "small": {"small_share": 0.5},
    "whole": {"whole_share": 0.4},
    "patience": {"patience": 1},
    "weights": {"class_weights": "balanced"},
    "all": {
        "layer_decay": 0.7,
        "probe": True,
        "small_share": 0.5,
        "whole_share": 0.4,
        "patience": 2,
        "ema": 0.9,
        "class_weights": "balanced",
    },
}


def plan_of(name: str) -> TrainingPlan:
    return msgspec.convert({**msgspec.to_builtins(PLAN), **PLANS[name]}, TrainingPlan)


def trained(
    plan: TrainingPlan, path: Path | None, last_step: int = 100
) -> tuple[dict[str, Tensor], list[EpochLog]]:
    """Return the weights and the log; the training is killed in a step after ``last_step``."""
    torch.manual_seed(0)
    network: Network = build(SPACE.architecture(SPACE.default), dropout=0.2)
    logs: list[EpochLog] = []

    def kill(progress: Progress) -> None:
        if progress.step > last_step:
            raise Killed

    train(network, DATA, plan, 0, path, logs.append, on_progress=kill, valid=VALID)
    return network.state_dict(), logs


@pytest.mark.parametrize("name", PLANS)
@pytest.mark.parametrize("last_step", [1, 6, 11])
def test_a_killed_training_ends_as_the_undisturbed_one(
    name: str, last_step: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(hwnas.training.loop, "CHECKPOINT_INTERVAL_S", 0.0)
    plan, path = plan_of(name), tmp_path / "checkpoint.safetensors"
    expected, lines = trained(plan, None)
    if len(lines) * 4 > last_step:
        with pytest.raises(Killed):
            trained(plan, path, last_step)
    weights, rest = trained(plan, path)
    for key, value in weights.items():
        assert torch.equal(value, expected[key]), key
    for line, other in zip(reversed(rest), reversed(lines), strict=False):
        assert line.loss == other.loss
        assert line.validation_accuracy == other.validation_accuracy


@pytest.mark.parametrize("name", [name for name in PLANS if name != "patience"])
def test_each_addition_changes_the_weights(name: str) -> None:
    """What changed nothing could be resumed without being there."""
    plain, _ = trained(PLAN, None)
    weights, _ = trained(plan_of(name), None)
    if name == "weights":  # 11, 11 and 10 images of the classes
        assert any(not torch.equal(value, plain[key]) for key, value in weights.items())
    assert not torch.equal(weights["blocks.0.conv.weight"], plain["blocks.0.conv.weight"])
