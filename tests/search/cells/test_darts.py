"""DARTS on cells: its steps, its choice by latency alone, and its derived cells."""

from __future__ import annotations

from itertools import product
from pathlib import Path
from random import Random

import msgspec
import pytest
import torch

from hwnas.architecture.architecture import Genotype
from hwnas.errors import UsageError
from hwnas.latency_models.cost import CostTable, cost_table
from hwnas.nn.cells.supernet import CellSupernet
from hwnas.search.cells.costs import joint_choices
from hwnas.search.cells.darts import SKIP_CAP, Darts, DartsSecond, search_net_macs
from hwnas.search.cells.training import node_rows, skips, window_genotypes
from hwnas.search.loop import run_search
from hwnas.search.objective import Linear
from hwnas.search.plan import SearchFiles, SearchPlan
from hwnas.search.strategy import SearchContext
from hwnas.spaces.cells.alpha import genotype_from_alpha
from hwnas.spaces.cells.space import CellSpace, cell_space
from tests.support.tiny import tiny_batch, tiny_costs, tiny_data, tiny_space

OPS = ("skip_connect", "sep_conv_3x3")
SPACE = CellSpace("cells", (1, 12, 12), 3, 4, 1, "cifar", "none", OPS, 2)
COSTS: CostTable = cost_table(SPACE, lambda block: 1.0 if block.op == "sep_conv" else 0.1, 0.0)


def searcher(kind: type[Darts] = Darts, rate: float = 0.05) -> Darts:
    torch.manual_seed(0)
    supernet = CellSupernet(SPACE, ("none", *OPS))
    generator = torch.Generator().manual_seed(0)
    return kind(supernet, COSTS, COSTS.largest_ms / 2, generator, rate)


@pytest.mark.parametrize("kind", [Darts, DartsSecond])
def test_an_architecture_step_changes_no_weight_or_statistic(kind: type[Darts]) -> None:
    strategy = searcher(kind)
    strategy.weight_step(tiny_batch(), 0.05)
    before = {name: value.clone() for name, value in strategy.weights.state_dict().items()}
    alpha = [part.detach().clone() for part in strategy.alpha]
    strategy.architecture_step(tiny_batch())
    after = strategy.weights.state_dict()
    assert any("running_mean" in name for name in before)
    assert any(name.startswith("momentum.") for name in before)
    assert all(torch.equal(value, after[name]) for name, value in before.items())
    # one cell at a third and two thirds of the depth: a reduction
    assert not torch.equal(alpha[1], strategy.alpha[1])


def test_the_second_order_gradient_differs_from_the_first() -> None:
    gradients = []
    for kind in (Darts, DartsSecond):
        strategy = searcher(kind)
        strategy.weight_step(tiny_batch(), 0.05)
        strategy.architecture_step(tiny_batch())
        assert strategy.alpha[1].grad is not None
        gradients.append(strategy.alpha[1].grad.clone())
    difference = (gradients[0] - gradients[1]).norm() / gradients[0].norm()
    assert 1e-4 < difference < 1


def test_without_a_budget_the_derived_cells_are_those_of_the_paper() -> None:
    strategy = searcher()
    strategy.skip_cap = 8
    for seed in range(5):
        generator = torch.Generator().manual_seed(seed)
        for part in strategy.alpha:
            part.data = torch.randn(part.shape, generator=generator)
        [genotype] = strategy.candidates(1, 0.0, 10 * COSTS.largest_ms, 0)
        rows = [part.tolist() for part in strategy.alpha]
        assert SPACE.cells(genotype) == genotype_from_alpha(*rows, ops=("none", *OPS))


def test_a_budget_that_excludes_the_preferred_operation_flips_the_choice() -> None:
    strategy = searcher()
    for part in strategy.alpha:
        part.data[:, 2] = 3.0
    free = strategy.candidates(1, 0.0, 10 * COSTS.largest_ms, 0)[0]
    tight = strategy.candidates(1, 0.0, COSTS.smallest_ms + 0.3, 0)[0]
    ops = [[e.op for e in SPACE.cells(genotype).reduction.edges] for genotype in (free, tight)]
    assert set(ops[0]) == {"sep_conv_3x3"} and "sep_conv_3x3" not in ops[1]
    assert COSTS.network_ms(tight.choices) <= COSTS.smallest_ms + 0.3


def test_latency_alone_moves_the_search_to_the_fast_operation() -> None:
    strategy = searcher(rate=0.1)
    strategy.set_costs(COSTS, COSTS.smallest_ms)
    strategy.objective = Linear(strategy.objective.budget_ms, 2.0)
    before = strategy._expected_ms(strategy.alpha).item()
    for _ in range(15):
        strategy.architecture_step(tiny_batch())
    assert strategy._expected_ms(strategy.alpha).item() < before - 0.3


def test_a_resumed_search_ends_as_an_uninterrupted_one(tmp_path: Path) -> None:
    plan = SearchPlan(warmup_epochs=1, search_epochs=2, batch_size=8)
    data = tiny_data(16), tiny_data(16, seed=1)

    def run(folder: str, number: int) -> dict[str, torch.Tensor]:
        (tmp_path / folder).mkdir(exist_ok=True)
        files = SearchFiles(tmp_path / folder / "s", tmp_path / folder / "l")
        strategy = searcher(DartsSecond)
        run_search(strategy, *data, plan, 0, files, number)
        return strategy.state_dict()

    whole = run("whole", 2)
    run("cut", 1)
    cut = run("cut", 2)  # a new strategy, which loads the checkpoint
    assert whole.keys() == cut.keys()
    assert all(torch.equal(value, cut[name]) for name, value in whole.items())


def test_the_network_of_a_genotype_computes_its_operations_only() -> None:
    strategy = searcher()
    genotype = SPACE.default
    network = strategy.network(genotype).eval()
    assert sum(map(sum, network.computed[1])) == len(SPACE.cells(genotype).reduction.edges)
    assert network(tiny_batch()[0]).shape == (8, 3)


def test_a_space_without_nodes_is_refused() -> None:
    space = tiny_space()
    context = SearchContext(
        space=space, costs=tiny_costs(space), budget_ms=2.0, generator=torch.Generator()
    )
    with pytest.raises(UsageError, match="space 'tiny' has no nodes; use --space cells"):
        Darts.begin(context)


def test_no_derived_cell_has_more_skips_than_the_cap() -> None:
    space = cell_space((1, 12, 12), 3, channels=4, layers=2)
    costs = cost_table(space, lambda block: 1.0 + block.macs / 1e5, 0.0)
    context = SearchContext(
        space=space,
        costs=costs,
        budget_ms=costs.largest_ms,
        generator=torch.Generator().manual_seed(0),
    )
    strategy = Darts.begin(context)
    with torch.no_grad():
        strategy.alpha[0][:, strategy.supernet.ops.index("skip_connect")] = 2.0
    genotypes = strategy.candidates(12, 0.0, 2 * costs.largest_ms, seed=0)
    assert max(skips(space.cells(genotype))[0] for genotype in genotypes) == SKIP_CAP
    assert strategy.metrics().skips == 8  # the cells that the logits alone derive are all skips


@pytest.mark.parametrize("seed", range(5))
def test_under_the_cap_the_most_probable_cell_is_the_first_candidate(seed: int) -> None:
    space = CellSpace("cells", (1, 12, 12), 3, 4, 3, "cifar", "none", OPS, 2)
    costs = cost_table(space, lambda block: 1.0 if block.op == "sep_conv" else 0.1, 0.0)
    generator = torch.Generator().manual_seed(seed)
    rows = [torch.randn(5, 2, generator=generator).double() for _ in range(2)]
    rows[0][:, 0] += 2.0  # all of the normal cell would be skips
    scores = node_rows(space, rows[0], rows[1])
    window_ms = 0.0, 0.7 * costs.largest_ms
    joint = joint_choices(space, costs, True)

    def total_score(options: tuple[int, ...]) -> float:
        return sum(
            row[a] + row[b]
            for row, (a, b) in zip(
                scores,
                [pairs[k] for pairs, k in zip(joint.pairs, options, strict=True)],
                strict=True,
            )
        )

    every = list(product(*(range(len(pairs)) for pairs in joint.pairs)))
    inside = [options for options in every if joint.costs.network_ms(options) <= window_ms[1]]
    for cap in (0, 1, 2, 4):
        allowed = [
            options
            for options in inside
            if skips(space.cells(Genotype("cells", joint.choices(options))))[0] <= cap
        ]
        for sample_seed in (0, 7):
            genotypes = window_genotypes(space, scores, costs, window_ms, 1, sample_seed, True, cap)
            best = joint.choices(max(allowed or inside, key=total_score))
            assert genotypes == [Genotype("cells", best)]
    # no network as fast as the fastest has that few skips: the budget comes first
    [fast] = window_genotypes(space, scores, costs, (0.0, costs.smallest_ms * 1.001), 1, 0, True, 0)
    assert skips(space.cells(fast))[0] > 0


def test_a_step_computes_all_operations_of_all_edges() -> None:
    network_macs = SPACE.architecture(SPACE.random(Random(0))).macs
    assert search_net_macs(SPACE) > network_macs
    only = msgspec.structs.replace(SPACE, ops=("sep_conv_3x3",), nodes=1)
    # a node of two edges, both kept: the search net is the network
    network = only.architecture(only.random(Random(0)))
    assert search_net_macs(only) == network.macs
