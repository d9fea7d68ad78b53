"""Which networks a ProxylessNAS search proposes: judged on its supernet, or the most probable."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from hwnas.latency_models.cost import CostTable, cost_table
from hwnas.search.knapsack import window_knapsack
from hwnas.search.loop import run_search
from hwnas.search.plan import SearchFiles, SearchPlan
from hwnas.search.proxyless.gradient import ProxylessGradient, ProxylessOptions
from hwnas.search.proxyless.reinforce import Reinforce
from hwnas.search.strategy import SearchContext, StrategyOptions
from hwnas.spaces.cells.space import CellSpace
from hwnas.spaces.space import SearchSpace
from tests.support.tiny import tiny_costs, tiny_data, tiny_space

SPACE = tiny_space(widths=(8, 16, 16, 16))
COSTS = tiny_costs(SPACE)
PLAN = SearchPlan(warmup_epochs=1, search_epochs=1, batch_size=8)
WINDOW = 3.0, 3.9
each = pytest.mark.parametrize("kind", [ProxylessGradient, Reinforce])


def searched(
    kind: type[ProxylessGradient],
    folder: Path,
    options: StrategyOptions | None = None,
    space: SearchSpace = SPACE,
    costs: CostTable = COSTS,
) -> ProxylessGradient:
    torch.manual_seed(0)
    generator = torch.Generator().manual_seed(0)
    context = SearchContext(
        space=space, costs=costs, budget_ms=4.0, generator=generator, options=options
    )
    strategy = kind.begin(context)
    files = SearchFiles(folder / "search.safetensors", folder / "log.jsonl")
    run_search(strategy, tiny_data(48), tiny_data(30, seed=1), PLAN, 0, files)
    return strategy


def score(strategy: ProxylessGradient, choices: tuple[int, ...]) -> float:
    """Return the mean probability of the validation labels with the weights of the supernet."""
    [(images, labels)] = tiny_data(30, seed=1).in_order(30)
    supernet = strategy.supernet.train()
    with torch.no_grad():
        return supernet(images, choices).softmax(1)[torch.arange(30), labels].mean().item()


@each
def test_the_best_network_of_the_window_comes_first(
    kind: type[ProxylessGradient], tmp_path: Path
) -> None:
    """The window is so small that every network in it is judged."""
    strategy = searched(kind, tmp_path)
    everything = np.stack(np.meshgrid(*map(range, (5, 4, 5, 5)), indexing="ij"), -1).reshape(-1, 4)
    ms = COSTS.networks_ms(everything)
    inside = [tuple(map(int, row)) for row in everything[(ms >= 3.3) & (ms <= 3.5)]]
    genotypes = strategy.candidates(3, 3.3, 3.5, 0)
    best = sorted(inside, key=lambda row: -score(strategy, row))
    assert 6 < len(inside) <= 80
    assert [genotype.choices for genotype in genotypes] == best[:3]


@each
def test_the_same_search_gives_the_same_networks_and_its_weights_stay(
    kind: type[ProxylessGradient], tmp_path: Path
) -> None:
    strategy = searched(kind, tmp_path)
    before = {name: value.clone() for name, value in strategy.state_dict().items()}
    genotypes = strategy.candidates(4, *WINDOW, 5)
    assert len(set(genotypes)) == 4
    assert all(torch.equal(value, before[name]) for name, value in strategy.state_dict().items())
    assert searched(kind, tmp_path).candidates(4, *WINDOW, 5) == genotypes


def test_the_choice_of_the_paper_is_the_most_probable_network_of_the_window(
    tmp_path: Path,
) -> None:
    strategy = searched(ProxylessGradient, tmp_path, ProxylessOptions(choice="most-probable"))
    logits = torch.randn(strategy.arch_logits.shape, generator=torch.Generator().manual_seed(3))
    strategy.arch_logits.data = 3 * logits
    scores = [[float(np.log(prob)) for prob in row] for row in strategy.preferences()[0]]
    [first, *_] = strategy.candidates(3, *WINDOW, 0)
    assert first.choices == window_knapsack(scores, COSTS, *WINDOW)
    assert strategy.judged is None


def test_a_supernet_that_was_not_trained_judges_nothing(tmp_path: Path) -> None:
    strategy = searched(ProxylessGradient, tmp_path)
    assert strategy.judged is not None
    strategy.judge_on(tiny_data(30), SearchPlan(warmup_epochs=0, search_epochs=0), 48, 0)
    assert strategy.judged is None and len(strategy.candidates(3, *WINDOW, 0)) == 3


def test_where_no_network_lies_in_the_window_the_slowest_below_it_is_taken(
    tmp_path: Path,
) -> None:
    strategy = searched(ProxylessGradient, tmp_path)
    low_ms, high_ms = COSTS.largest_ms + 1, COSTS.largest_ms + 2
    [genotype] = strategy.candidates(1, low_ms, high_ms, 0)
    assert COSTS.network_ms(genotype.choices) == pytest.approx(COSTS.largest_ms)


def test_networks_of_cells_are_judged_too(tmp_path: Path) -> None:
    ops = ("skip_connect", "sep_conv_3x3", "max_pool_3x3")
    space = CellSpace("cells", (1, 12, 12), 3, 4, 3, "cifar", "none", ops, 2)
    costs = cost_table(space, lambda block: 1.0 if block.op == "sep_conv" else 0.1, 0.0)
    low_ms, high_ms = 0.0, costs.largest_ms
    strategy = searched(ProxylessGradient, tmp_path, None, space, costs)
    assert strategy.judged is not None
    genotypes = strategy.candidates(3, low_ms, high_ms, 0)
    judged = strategy.judged.final_judge.known
    scores = [judged[genotype.choices] for genotype in genotypes]
    assert scores == sorted(scores, reverse=True) and len(set(genotypes)) == 3
    assert all(space.architecture(genotype).blocks for genotype in genotypes)
