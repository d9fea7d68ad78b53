"""Frozen batch norms use the statistics that the network came with, and keep them."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from hwnas.nn.build import Network, build
from hwnas.training.checkpoint import load_checkpoint
from hwnas.training.evaluation import recalibrate
from hwnas.training.images.augment import NO_AUGMENTATION
from hwnas.training.job import TrainingJob, run_job
from hwnas.training.log import EpochLog
from hwnas.training.loop import train
from hwnas.training.plan import TrainingPlan
from hwnas.training.tuning.probe import fit_classifier
from tests.support.tiny import tiny_data, tiny_space

SPACE = tiny_space()
DATA = tiny_data(42)


def network() -> Network:
    torch.manual_seed(0)
    trained = build(SPACE.architecture(SPACE.default))
    recalibrate(trained, DATA)
    return trained


def plan(frozen: bool, rate: float = 0.1) -> TrainingPlan:
    return TrainingPlan(
        epochs=1,
        batch_size=42,
        peak_learning_rate=rate,
        frozen_norms=frozen,
        augmentation=NO_AUGMENTATION,
        dropout=0.0,
        label_smoothing=0.0,
    )


def means(weights: dict[str, Tensor]) -> list[Tensor]:
    return [value for name, value in weights.items() if name.endswith("running_mean")]


@pytest.mark.parametrize("frozen", [False, True])
def test_the_statistics_stay_only_where_they_are_frozen(frozen: bool) -> None:
    trained = network()
    before = [value.clone() for value in means(trained.state_dict())]
    train(trained, DATA, plan(frozen), 0)
    same = [*map(torch.equal, means(trained.state_dict()), before)]
    assert all(same) if frozen else not any(same)


def test_with_frozen_norms_a_training_begins_with_the_loss_of_the_fitted_classifier() -> None:
    """Without a learning rate only the statistics of a batch can change it."""
    losses: dict[bool, float] = {}
    for frozen in (False, True):
        trained, logs = network(), list[EpochLog]()
        recalibrate(trained, tiny_data(12, seed=5))
        fit_classifier(trained, DATA, None)
        with torch.no_grad():
            images, labels = next(DATA.in_order(42))
            expected = F.cross_entropy(trained.eval()(images), labels).item()
        train(trained, DATA, plan(frozen, rate=0.0), 0, None, logs.append)
        losses[frozen] = logs[0].loss / expected
    assert losses[True] == pytest.approx(1, rel=1e-4)
    assert losses[False] != pytest.approx(1, rel=1e-3)


def test_a_job_does_not_estimate_frozen_statistics_anew(tmp_path: Path) -> None:
    job = TrainingJob(
        architecture=SPACE.architecture(SPACE.default), data="", plan=plan(frozen=True)
    )
    run_job(job, tmp_path, images=(DATA, tiny_data(24, seed=1)))
    weights, _ = load_checkpoint(tmp_path / "network.safetensors")
    assert all(not value.any() for value in means(weights))  # as in a fresh network
