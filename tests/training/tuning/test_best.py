"""A training with patience ends after its best epoch, with that epoch's weights."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from msgspec.structs import replace
from torch import Tensor

from hwnas.nn.build import Network, build
from hwnas.training.evaluation import accuracy
from hwnas.training.log import EpochLog
from hwnas.training.loop import train
from hwnas.training.plan import TrainingPlan
from hwnas.training.tuning import best
from hwnas.training.tuning.probe import fit_classifier
from tests.support.tiny import tiny_data, tiny_space

SPACE = tiny_space()
DATA, VALID = tiny_data(32), tiny_data(24, seed=1)
PLAN = TrainingPlan(epochs=6, batch_size=8, patience=2)


def fresh() -> Network:
    torch.manual_seed(0)
    return build(SPACE.architecture(SPACE.default))


def trained_as_if(
    accuracies: list[float], monkeypatch: pytest.MonkeyPatch, path: Path | None = None
) -> tuple[Network, list[EpochLog], list[dict[str, Tensor]]]:
    """Train where the epochs have these validation accuracies; return the weights of each too."""
    network, logs, states = fresh(), list[EpochLog](), list[dict[str, Tensor]]()
    remaining = iter([0.0, *accuracies])  # the first is that before any epoch
    monkeypatch.setattr(best, "accuracy", lambda *_: next(remaining))

    def note(line: EpochLog) -> None:
        logs.append(line)
        states.append({name: value.clone() for name, value in network.state_dict().items()})

    train(network, DATA, PLAN, 0, path, note, valid=VALID)
    return network, logs, states


def test_it_stops_after_the_epochs_of_patience_with_the_best_weights(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    network, logs, states = trained_as_if([0.4, 0.6, 0.6, 0.5], monkeypatch)
    assert [line.validation_accuracy for line in logs] == [0.4, 0.6, 0.6, 0.5]
    assert all(torch.equal(value, states[1][name]) for name, value in network.state_dict().items())
    assert not torch.equal(states[3]["blocks.0.conv.weight"], states[1]["blocks.0.conv.weight"])


def test_while_accuracy_rises_all_epochs_are_trained(monkeypatch: pytest.MonkeyPatch) -> None:
    network, logs, states = trained_as_if([0.1, 0.2, 0.15, 0.3, 0.2, 0.4], monkeypatch)
    assert len(logs) == 6
    assert all(torch.equal(value, states[5][name]) for name, value in network.state_dict().items())


def test_a_stopped_training_that_is_resumed_stays_stopped(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    path = tmp_path / "checkpoint.safetensors"
    network, logs, _ = trained_as_if([0.4, 0.3, 0.2], monkeypatch, path)
    resumed, more, _ = trained_as_if([], monkeypatch, path)
    assert (len(logs), len(more)) == (3, 0)
    assert all(
        torch.equal(value, resumed.state_dict()[name])
        for name, value in network.state_dict().items()
    )


def test_the_accuracy_is_that_of_the_weights_that_would_be_the_result() -> None:
    """With an average these are not the network's own."""
    network, logs = fresh(), list[EpochLog]()
    plan = TrainingPlan(epochs=2, batch_size=8, patience=5, ema=0.5)
    train(network, DATA, plan, 0, None, logs.append, valid=VALID)
    values = [line.validation_accuracy for line in logs]
    assert accuracy(network, VALID) == max(value for value in values if value is not None)


def test_without_patience_nothing_is_validated() -> None:
    logs: list[EpochLog] = []
    train(fresh(), DATA, TrainingPlan(epochs=1, batch_size=8), 0, None, logs.append, valid=VALID)
    assert logs[0].validation_accuracy is None


def test_patience_without_validation_images_is_a_mistake() -> None:
    with pytest.raises(ValueError, match="needs validation images"):
        train(fresh(), DATA, PLAN, 0)


def test_a_fitted_classifier_that_no_epoch_improves_is_the_result(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    plan = replace(PLAN, probe=True, frozen_norms=True)
    expected, network, logs = fresh(), fresh(), list[EpochLog]()
    fit_classifier(expected, DATA, None)
    remaining = iter([0.9, 0.5, 0.8])
    monkeypatch.setattr(best, "accuracy", lambda *_: next(remaining))
    train(network, DATA, plan, 0, None, logs.append, valid=VALID)
    assert [line.validation_accuracy for line in logs] == [0.5, 0.8]
    for name, value in expected.state_dict().items():
        assert torch.equal(value, network.state_dict()[name]), name
