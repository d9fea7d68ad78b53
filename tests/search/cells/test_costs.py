"""The expected latency of a relaxed cell is the mean over its derivable cells."""

from __future__ import annotations

from itertools import combinations, product
from random import Random

import pytest
import torch
from torch import Tensor

from hwnas.latency_models.cost import CostTable, cost_table
from hwnas.search.cells.costs import (
    cell_costs,
    cell_expected_ms,
    joint_choices,
    keep_probabilities,
    kind_expected_ms,
)
from hwnas.spaces.cells.alpha import edge_count
from hwnas.spaces.cells.genotype import CELL_INPUTS, DARTS_OPS
from hwnas.spaces.cells.space import CellSpace, cell_space
from hwnas.spaces.int8 import Int8Space

SPACE = cell_space((1, 28, 28), 10, channels=8, layers=5)


def costs_of(space: CellSpace) -> CostTable:
    """Return costs that differ for all blocks."""
    return cost_table(space, lambda block: 0.1 + block.macs / 1e6 + block.params / 1e5, 0.3)


def enumerated_ms(probs: Tensor, edge_ms: Tensor, none: int) -> float:
    """Sum over all derivable cells: pairs of edges by their weights, then operations."""
    total, start, node = 0.0, 0, CELL_INPUTS
    while start < len(probs):
        weights = {
            pair: float((1 - probs[start + pair[0], none]) * (1 - probs[start + pair[1], none]))
            for pair in combinations(range(node), 2)
        }
        whole = sum(weights.values())
        real = [op for op in range(probs.shape[1]) if op != none]
        for pair, weight in weights.items():
            for ops in product(real, repeat=2):
                chance, ms = weight / whole, 0.0
                for edge, op in zip(pair, ops, strict=True):
                    row = probs[start + edge]
                    chance *= float(row[op] / (1 - row[none]))
                    ms += float(edge_ms[start + edge, op])
                total += chance * ms
        start, node = start + node, node + 1
    return total


def logits(nodes: int, ops: int, seed: int = 0) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(edge_count(nodes), ops, generator=generator, dtype=torch.float64)


@pytest.mark.parametrize("nodes", [1, 2, 3])
def test_the_expected_latency_of_a_small_cell_is_that_of_enumeration(nodes: int) -> None:
    probs = logits(nodes, 3).softmax(1)
    edge_ms = logits(nodes, 3, seed=1).abs()
    edge_ms[:, 0] = 0
    latency_ms = kind_expected_ms(probs, edge_ms, none=0).item()
    assert latency_ms == pytest.approx(enumerated_ms(probs, edge_ms, none=0), rel=1e-12)


def test_a_node_keeps_two_edges_in_expectation_and_both_where_there_are_two() -> None:
    for count in (2, 3, 4, 5):
        probabilities = keep_probabilities(torch.randn(count, dtype=torch.float64))
        assert probabilities.sum().item() == pytest.approx(2)
        assert ((probabilities > 0) & (probabilities <= 1 + 1e-12)).all()
    assert keep_probabilities(torch.zeros(2)).tolist() == [1, 1]


def test_certain_probabilities_cost_exactly_what_the_derived_network_costs() -> None:
    costs = costs_of(SPACE)
    table = cell_costs(SPACE, costs, DARTS_OPS)
    genotype = SPACE.random(Random(2))
    cells = SPACE.cells(genotype)
    alphas = []
    for cell in (cells.normal, cells.reduction):
        rows = torch.zeros(edge_count(SPACE.nodes), len(DARTS_OPS), dtype=torch.float64)
        rows[:, DARTS_OPS.index("none")] = 60
        for node, edges in enumerate(cell.nodes):
            for edge in edges:
                place = edge_count(node) + edge.source
                rows[place] = 0
                rows[place, DARTS_OPS.index(edge.op)] = 60
        alphas.append(rows.softmax(1))
    latency_ms = cell_expected_ms(alphas[0], alphas[1], table, DARTS_OPS.index("none")).item()
    assert latency_ms == pytest.approx(costs.network_ms(genotype.choices), rel=1e-9)


def test_the_gradient_of_the_expected_latency_is_that_of_finite_differences() -> None:
    table = cell_costs(SPACE, costs_of(SPACE), DARTS_OPS)
    alpha = [logits(SPACE.nodes, len(DARTS_OPS), seed).requires_grad_() for seed in (0, 1)]

    def expected(normal: Tensor, reduction: Tensor) -> Tensor:
        return cell_expected_ms(normal.softmax(1), reduction.softmax(1), table, 0)

    assert torch.autograd.gradcheck(expected, alpha)


@pytest.mark.parametrize("distinct", [True, False])
def test_a_joint_choice_costs_what_its_network_costs(distinct: bool) -> None:
    costs = costs_of(SPACE)
    joint = joint_choices(SPACE, costs, distinct)
    rng = Random(0)
    options = tuple(rng.randrange(len(row)) for row in joint.pairs)
    choices = joint.choices(options)
    assert joint.costs.network_ms(options) == pytest.approx(costs.network_ms(choices))
    sources = (2, 3, 4, 5)
    pairs = [n * (n - 1) // 2 * 49 if distinct else 7 * n * (7 * n - 1) // 2 for n in sources]
    assert [len(row) for row in joint.pairs] == pairs * 2


def test_the_reachable_range_is_that_of_all_networks_of_two_sources() -> None:
    ops = ("skip_connect", "sep_conv_3x3")
    space = CellSpace("cells", (1, 12, 12), 3, 4, 3, "cifar", "none", ops, 2)
    costs = costs_of(space)
    each: list[list[float]] = []
    for at in range(0, len(space.decisions), 2):
        options = space.options(2 + (at // 2) % space.nodes)
        each.append(
            [
                costs.mean_ms[at][a] + costs.mean_ms[at][b]
                for a, b in combinations(range(len(options)), 2)
                if options[a].source != options[b].source
            ]
        )
    latencies_ms = [costs.fixed_ms + sum(pick) for pick in product(*each)]
    assert costs.smallest_ms == pytest.approx(min(latencies_ms))
    assert costs.largest_ms == pytest.approx(max(latencies_ms))
    # the same operation twice would be faster, but is no network of the space
    assert costs.fixed_ms + sum(map(min, costs.mean_ms)) < costs.smallest_ms - 1e-3
    for distinct in (True, False):
        joint = joint_choices(space, costs, distinct).costs
        assert joint.smallest_ms <= costs.smallest_ms + 1e-9
    assert cost_table(Int8Space(space), lambda _: 1.0, 0.0).reach_ms is not None
