"""Learning rates fall from the classifier downwards by the plan's factor a block."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from hwnas.nn.build import build
from hwnas.training.loop import train
from hwnas.training.plan import TrainingPlan
from hwnas.training.tuning.rates import classifier, parameter_groups, rate_factors
from tests.support.tiny import tiny_data, tiny_space

SPACE = tiny_space()
NETWORK = build(SPACE.architecture(SPACE.default))


def test_each_block_has_a_share_of_the_next_blocks_rate() -> None:
    factors = rate_factors(NETWORK, TrainingPlan(layer_decay=0.5, head_rate=10))
    rates = [{factors[parameter] for parameter in block.parameters()} for block in NETWORK.blocks]
    assert rates[-1] == {10.0}
    assert rates[:-1] == [{0.5**height} for height in reversed(range(len(rates) - 1))]


def test_groups_hold_each_parameter_once_and_penalise_weights_only() -> None:
    for plan in (TrainingPlan(), TrainingPlan(layer_decay=0.5, head_rate=10)):
        groups = parameter_groups(NETWORK, plan)
        members = [parameter for group in groups for parameter in group["params"]]
        assert {*members} == {*NETWORK.parameters()} and len(members) == len({*members})
        for group in groups:
            penalised = {parameter.ndim > 1 for parameter in group["params"]}
            assert penalised == {group["weight_decay"] > 0}
    assert len(parameter_groups(NETWORK, TrainingPlan())) == 2


def test_a_module_without_blocks_has_a_rate_for_all() -> None:
    [group, _] = parameter_groups(nn.Linear(2, 2), TrainingPlan())
    assert group["factor"] == 1


def test_without_rates_below_it_only_the_top_moves() -> None:
    torch.manual_seed(0)
    network = build(SPACE.architecture(SPACE.default))
    before = {name: value.clone() for name, value in network.named_parameters()}
    plan = TrainingPlan(epochs=1, batch_size=8, layer_decay=0.0, weight_decay=0.0)
    train(network, tiny_data(), plan, seed=0)
    moved = {
        name for name, value in network.named_parameters() if not torch.equal(value, before[name])
    }
    last = len(network.blocks) - 1
    assert {f"blocks.{last}.linear.weight", f"blocks.{last}.linear.bias"} <= moved
    assert all(name.startswith((f"blocks.{last}.", f"blocks.{last - 1}.")) for name in moved)


def test_the_classifier_is_the_layer_of_the_logits() -> None:
    assert classifier(NETWORK).out_features == SPACE.num_classes
    with pytest.raises(StopIteration):
        classifier(nn.Linear(2, 2))
