"""The final training of cells: the auxiliary classifier's loss, and paths that are dropped."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
import torch.nn.functional as F

from hwnas.console import QuietConsole
from hwnas.data.datasets import load_dataset
from hwnas.errors import UsageError
from hwnas.files import write_json
from hwnas.networks.weights import trained_network
from hwnas.nn.auxiliary import WithAuxiliary, trainee
from hwnas.nn.build import build
from hwnas.nn.network import WiredNetwork
from hwnas.profiling.setup import load_space
from hwnas.spaces.cells.genotype import published_genotype
from hwnas.spaces.cells.space import cell_space
from hwnas.specialize.setup.plan import work_plan
from hwnas.specialize.spec import EffortName, RunSpec
from hwnas.specialize.steps.train_network import train_network
from hwnas.specialize.steps.training_setup import TrainSpec
from hwnas.training.images.augment import NO_AUGMENTATION
from hwnas.training.images.batches import Batches
from hwnas.training.log import EpochLog
from hwnas.training.loop import train
from hwnas.training.plan import TrainingPlan
from tests.support.machines.killed import Killed
from tests.support.reporting.sample_run import write_images
from tests.support.tiny import tiny_data, tiny_space

SPACE = cell_space((1, 24, 24), 3, 4, 3)
ARCHITECTURE = SPACE.architecture(published_genotype("DARTS_V2"))


def fresh() -> WiredNetwork:
    torch.manual_seed(0)
    network = build(ARCHITECTURE)
    assert isinstance(network, WiredNetwork)
    return network


def test_the_loss_counts_the_auxiliary_logits_by_their_weight() -> None:
    plan = TrainingPlan(
        epochs=1,
        batch_size=6,
        auxiliary=0.4,
        label_smoothing=0.0,
        weight_decay=0.0,
        augmentation=NO_AUGMENTATION,
    )
    network, data = WithAuxiliary(fresh(), ARCHITECTURE), tiny_data(6, 24)
    images, labels = Batches(data, 6, NO_AUGMENTATION, 0).batch(0)
    logits, auxiliary = network.train()(images)
    expected = F.cross_entropy(logits, labels) + 0.4 * F.cross_entropy(auxiliary, labels)
    expected.backward()
    inside = network.network.blocks[0]
    wanted = [parameter.grad.clone() for parameter in inside.parameters()]  # type: ignore[union-attr]
    logs: list[EpochLog] = []
    train(network, data, plan, 0, on_epoch=logs.append)
    assert logs[0].loss == pytest.approx(expected.item(), rel=1e-6)
    for parameter, grad in zip(inside.parameters(), wanted, strict=True):
        assert torch.allclose(parameter.grad, grad, rtol=1e-4, atol=1e-7)  # type: ignore[arg-type]


def test_paths_are_dropped_more_and_more_often_and_no_more_in_the_end() -> None:
    network, seen = fresh(), list[float]()
    plan = TrainingPlan(epochs=4, batch_size=8, drop_path=0.2)
    train(
        network,
        tiny_data(16, 24),
        plan,
        0,
        on_epoch=lambda _: seen.append(network.drop_path),
    )
    assert seen == pytest.approx([0.0, 0.05, 0.1, 0.15])
    assert network.drop_path == 0.0


def test_without_a_weight_nothing_is_added() -> None:
    network = fresh()
    assert trainee(network, ARCHITECTURE, 0.0) is network
    assert isinstance(trainee(network, ARCHITECTURE, 0.4), WithAuxiliary)


def test_a_training_with_both_goes_on_after_a_cut_and_leaves_the_network_alone(
    tmp_path: Path,
) -> None:
    data = write_images(tmp_path / "images.npz", 40, 20, size=24)
    write_json(tmp_path / "net.json", ARCHITECTURE)

    spec = TrainSpec(
        architecture=str(tmp_path / "net.json"),
        data=str(data),
        epochs=3,
        batch_size=8,
        auxiliary=0.4,
        drop_path=0.3,
    )

    def die(line: EpochLog) -> None:
        if line.epoch == 2:
            raise Killed

    whole = train_network(spec, tmp_path / "whole")
    with pytest.raises(Killed):
        train_network(spec, tmp_path / "cut", on_epoch=die)
    resumed = train_network(spec, tmp_path / "cut", resume=True)
    assert resumed.validation_accuracy == whole.validation_accuracy
    first, other = (trained_network(ARCHITECTURE, tmp_path / name) for name in ("whole", "cut"))
    for name, value in first.state_dict().items():
        assert torch.equal(value, other.state_dict()[name]), name


def test_a_chain_has_no_place_for_a_second_classifier(tmp_path: Path) -> None:
    chain = tiny_space()
    write_json(tmp_path / "net.json", chain.architecture(chain.default))
    data = write_images(tmp_path / "images.npz", 40, 20)
    spec = TrainSpec(architecture=str(tmp_path / "net.json"), data=str(data), auxiliary=0.4)
    with pytest.raises(UsageError, match="needs a network of cells, got a chain of blocks"):
        train_network(spec, tmp_path / "out")


def test_only_the_full_effort_trains_cells_as_darts_does() -> None:
    dataset = load_dataset("fashion-mnist-6k")
    space = load_space("cells-5x8", dataset)

    def trained(effort: EffortName) -> TrainingPlan:
        spec = RunSpec(targets=("simulated-phone",), space=space.name, effort=effort)
        return work_plan(spec, dataset, space, QuietConsole()).training

    assert (trained("full").auxiliary, trained("full").drop_path) == (0.4, 0.2)
    assert (trained("quick").auxiliary, trained("quick").drop_path) == (0.0, 0.0)
