"""Searches in a network that is smaller than those that they choose."""

from __future__ import annotations

from random import Random
from typing import cast

import msgspec
import pytest
import torch

from hwnas.latency_models.cost import cost_table
from hwnas.nn.cells.paths import CellPaths
from hwnas.nn.cells.supernet import CellSupernet
from hwnas.search.cells.darts import Darts, DartsSecond, search_net_macs
from hwnas.search.cells.ista.two_stage import Ista
from hwnas.search.cells.pc_darts import PartialDarts
from hwnas.search.proxyless.gradient import ProxylessGradient
from hwnas.search.registry import load_strategy
from hwnas.search.strategy import SearchContext, SteppedStrategy
from hwnas.spaces.cells.layout import StackSize
from hwnas.spaces.cells.sizes import sized_cells
from hwnas.spaces.cells.space import CellSpace
from tests.support.tiny import tiny_batch

OPS = ("skip_connect", "sep_conv_3x3")
SPACE = CellSpace(
    "cells-3x12", (1, 12, 12), 3, 12, 3, "cifar", "none", OPS, 2, search_size=StackSize(2, 8)
)
COSTS = cost_table(SPACE, lambda block: block.macs / 1e6, 0.0)
STRATEGIES = ("darts", "darts-2", "pc-darts", "ista", "proxyless")


def begun(name: str, budget_ms: float) -> SteppedStrategy:
    torch.manual_seed(0)
    context = SearchContext(
        space=SPACE,
        costs=COSTS,
        budget_ms=budget_ms,
        generator=torch.Generator().manual_seed(0),
        arch_learning_rate=0.1,
    )
    return cast(SteppedStrategy, load_strategy(name).begin(context))


def search_net(strategy: SteppedStrategy) -> CellSupernet:
    assert isinstance(strategy, Darts | Ista | ProxylessGradient)
    net = strategy.supernet
    return net.net if isinstance(net, CellPaths) else cast(CellSupernet, net)


@pytest.mark.parametrize("name", STRATEGIES)
def test_the_search_net_has_the_search_size_and_the_budget_is_that_of_the_network(
    name: str,
) -> None:
    budget_ms = (COSTS.smallest_ms + COSTS.largest_ms) / 2
    strategy = begun(name, budget_ms)
    net = search_net(strategy)
    assert (len(net.cells), net.space.channels) == (2, 8)
    strategy.begin_epoch(warm_up=False)
    strategy.weight_step(tiny_batch(), 0.05)
    strategy.architecture_step(tiny_batch())
    [genotype] = strategy.candidates(1, 0.9 * budget_ms, budget_ms, 0)
    network = SPACE.architecture(genotype)
    cost_ms = sum(block.macs for block in network.blocks) / 1e6
    assert 0.9 * budget_ms <= cost_ms <= budget_ms
    small_ms = sum(block.macs for block in net.space.architecture(genotype).blocks) / 1e6
    assert small_ms < cost_ms / 2
    logits = strategy.network(genotype).eval()(tiny_batch()[0])
    assert logits.shape == (8, 3) and not strategy.inherits(genotype)


def test_the_expected_latency_is_that_of_the_network() -> None:
    strategy = begun("darts", COSTS.largest_ms / 2)
    assert isinstance(strategy, Darts)
    genotype = SPACE.random(Random(0))
    for kind, cell in enumerate((SPACE.cells(genotype).normal, SPACE.cells(genotype).reduction)):
        strategy.alpha[kind].data.fill_(-40.0)
        strategy.alpha[kind].data[:, 0] = 40.0  # none, except for the chosen operations
        edge = 0
        for node, chosen in enumerate(cell.nodes, 2):
            for source in range(node):
                for each in chosen:
                    if each.source == source:
                        row = strategy.alpha[kind].data[edge]
                        row[0], row[1 + OPS.index(each.op)] = -40.0, 40.0
                edge += 1
    expected_ms = strategy._expected_ms(strategy.alpha).item()
    assert expected_ms == pytest.approx(COSTS.network_ms(genotype.choices), rel=1e-6)


def test_search_nets_of_the_papers_have_the_published_number_of_weights() -> None:
    space = sized_cells("cells-20x36", (3, 32, 32), 10)
    assert space is not None
    costs = cost_table(space, lambda block: 1.0, 0.0)
    for kind, weights in ((DartsSecond, 1_930_618), (PartialDarts, 299_578)):
        context = SearchContext(
            space=space,
            costs=costs,
            budget_ms=costs.largest_ms,
            generator=torch.Generator().manual_seed(0),
        )
        net = kind.begin(context).supernet
        assert sum(weight.numel() for weight in net.parameters()) == weights


def test_a_search_step_is_counted_in_the_search_net() -> None:
    own = msgspec.structs.replace(SPACE, channels=8, layers=2, search_size=None)
    assert (
        search_net_macs(SPACE)
        == search_net_macs(own)
        < search_net_macs(msgspec.structs.replace(SPACE, search_size=None))
    )
