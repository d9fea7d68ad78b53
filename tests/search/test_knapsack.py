"""The window knapsack is exact, never over the budget, and fills it."""

from __future__ import annotations

import math
from itertools import product

import numpy as np
import pytest
import torch

from hwnas.errors import BudgetError
from hwnas.latency_models.cost import CostTable
from hwnas.latency_models.storage.store import published_model
from hwnas.nn.supernet import Supernet
from hwnas.search import knapsack
from hwnas.search.blackbox.random import RandomSearch
from hwnas.search.knapsack import MIN_CELLS, CountLimit, window_knapsack, window_samples
from hwnas.spaces.mobile.space import mobile_space
from tests.support.tiny import tiny_costs, tiny_space

Problem = tuple[list[list[float]], CostTable]


def problem(seed: int) -> Problem:
    """Return up to 5 decisions of 2 to 5 candidates; the budget excludes about half of them."""
    rng = np.random.default_rng(seed)
    widths = rng.integers(2, 6, rng.integers(2, 6)).tolist()
    scores = [np.log(rng.dirichlet(np.ones(width))).tolist() for width in widths]
    costs = tuple(tuple(rng.gamma(1.5, 1.0, width).tolist()) for width in widths)
    return scores, CostTable(costs, 2.0)


def budget_of(costs: CostTable) -> float:
    return (costs.smallest_ms + costs.largest_ms) / 2


def score(scores: list[list[float]], choices: tuple[int, ...]) -> float:
    return sum(row[choice] for row, choice in zip(scores, choices, strict=True))


def every_choice(costs: CostTable) -> list[tuple[int, ...]]:
    return list(product(*(range(len(row)) for row in costs.mean_ms)))


def in_window(costs: CostTable, low_ms: float, high_ms: float) -> list[tuple[int, ...]]:
    return [c for c in every_choice(costs) if low_ms <= costs.network_ms(c) <= high_ms]


@pytest.mark.parametrize("low_share", [0.0, 0.8, 0.97])
@pytest.mark.parametrize("seed", range(100))
def test_it_equals_exhaustive_search(seed: int, low_share: float) -> None:
    scores, costs = problem(seed)
    for share in (0.1, 0.5, 0.8):
        high_ms = (1 - share) * costs.smallest_ms + share * costs.largest_ms
        low_ms = low_share * high_ms
        allowed = in_window(costs, low_ms, high_ms)
        choices = window_knapsack(scores, costs, low_ms, high_ms)
        if allowed:
            assert choices in allowed
            best = max(score(scores, row) for row in allowed)
            assert score(scores, choices) == pytest.approx(best, rel=1e-12)
        else:
            nearest_ms = max(map(costs.network_ms, in_window(costs, 0, high_ms)))
            assert costs.network_ms(choices) == nearest_ms


@pytest.mark.parametrize("max_count", [0, 1, 2, 9])
@pytest.mark.parametrize("seed", range(12))
def test_with_a_limit_it_equals_exhaustive_search(seed: int, max_count: int) -> None:
    scores, costs = problem(seed)
    budget_ms = budget_of(costs)
    rng = np.random.default_rng(seed)
    limit = CountLimit([rng.integers(0, 3, len(row)).tolist() for row in scores], max_count)

    def keeps_limit(choices: tuple[int, ...]) -> bool:
        return sum(row[c] for row, c in zip(limit.counts, choices, strict=True)) <= max_count

    within = [row for row in in_window(costs, 0, budget_ms) if keeps_limit(row)]
    if not within:
        with pytest.raises(BudgetError, match=f"at most {max_count} such choices"):
            window_knapsack(scores, costs, 0, budget_ms, limit)
        return
    best = max(score(scores, row) for row in within)
    choices = window_knapsack(scores, costs, 0, budget_ms, limit)
    assert choices in within and score(scores, choices) == pytest.approx(best, rel=1e-12)
    drawn = window_samples(scores, costs, 0, budget_ms, 8, np.random.default_rng(0), limit)
    assert drawn[0] == choices and set(drawn) <= set(within)


def test_the_problems_include_binding_and_empty_windows() -> None:
    kinds: set[str] = set()
    for seed in range(100):
        scores, costs = problem(seed)
        budget_ms = budget_of(costs)
        free = max(in_window(costs, 0, budget_ms), key=lambda c: score(scores, c))
        allowed = in_window(costs, 0.97 * budget_ms, budget_ms)
        kinds.add("empty" if not allowed else "slack" if free in allowed else "binding")
        assert len(in_window(costs, 0, budget_ms)) < len(every_choice(costs))
    assert kinds == {"empty", "slack", "binding"}


@pytest.mark.parametrize("seed", range(20))
def test_without_a_proof_the_window_is_kept_and_little_is_lost(
    seed: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(knapsack, "MAX_NODES", 0)
    monkeypatch.setattr(knapsack, "MAX_NODES_PER_DECISION", 0)
    scores, costs = problem(seed)
    for high_ms in np.linspace(costs.smallest_ms, costs.largest_ms, 15).tolist():
        low_ms = 0.8 * high_ms
        choices = window_knapsack(scores, costs, low_ms, high_ms)
        assert costs.network_ms(choices) <= high_ms
        slack_ms = (high_ms - costs.fixed_ms) * len(scores) / MIN_CELLS
        if inside := in_window(costs, low_ms + slack_ms, high_ms - slack_ms):
            assert costs.network_ms(choices) >= low_ms
            assert score(scores, choices) >= max(score(scores, c) for c in inside) - 1e-12


def test_an_excluded_candidate_is_not_chosen_even_where_the_window_is_empty() -> None:
    costs = CostTable(((1.0, 2.0, 3.0), (1.0, 2.0, 3.0)), 0.0)
    scores = [[0.0, -math.inf, -1.0], [0.0, 0.0, -math.inf]]
    assert window_knapsack(scores, costs, 4.0, 5.0) == (2, 1)
    assert window_knapsack(scores, costs, 5.5, 6.0) == (2, 1)  # (2, 2) is excluded
    with pytest.raises(BudgetError, match=r"within 2\.5 ms has only allowed choices"):
        window_knapsack([[-math.inf, 0.0, 0.0]] * 2, costs, 0.0, 2.5)


def test_in_a_large_space_the_optimum_is_within_the_bound_by_a_price() -> None:
    """For any price, no network has a score above ``sum of max (score - price * cost) + price *
    budget``: a bound that uses neither cells nor the search."""
    rng = np.random.default_rng(0)
    scores = np.log(rng.dirichlet(np.ones(7), 648))
    cost = rng.gamma(2.0, 1.0, scores.shape) + 0.1 * np.arange(7)
    costs = CostTable(tuple(map(tuple, cost.tolist())), 1.0)
    high_ms = 0.3 * costs.smallest_ms + 0.2 * costs.largest_ms
    choices = window_knapsack(scores.tolist(), costs, 0.97 * high_ms, high_ms)
    assert 0.97 * high_ms <= costs.network_ms(choices) <= high_ms
    prices = np.linspace(0.0, 3.0, 3001)[:, None, None]
    bounds = (scores - prices * cost).max(2).sum(1) + prices[:, 0, 0] * (high_ms - 1.0)
    assert bounds.min() - 0.05 < score(scores.tolist(), choices) <= bounds.min() + 1e-9


def test_a_budget_used_up_by_fixed_blocks_leaves_free_candidates() -> None:
    costs = CostTable(((0.3, 0.0), (0.0, 0.2)), 5.0)
    scores = [[0.0, -9.0], [-9.0, 0.0]]
    assert window_knapsack(scores, costs, 4.5, 5.0) == (1, 0)


def test_the_fastest_network_is_found_where_only_it_fits() -> None:
    costs = CostTable(((0.1, 0.7), (0.1, 0.7), (0.1, 0.7)), 0.2)
    assert window_knapsack([[-9.0, 0.0]] * 3, costs, 0.4, costs.smallest_ms) == (0, 0, 0)


def test_a_budget_below_the_fastest_network_names_its_latency() -> None:
    _, costs = problem(0)
    with pytest.raises(BudgetError, match=rf"takes {costs.smallest_ms:.4g} ms, over .* 2 ms"):
        window_knapsack([[0.0] * len(row) for row in costs.mean_ms], costs, 0, 2.0)


def test_the_slowest_of_equal_scores_wins() -> None:
    costs = CostTable(((1.0, 2.0, 3.0), (1.0, 2.0, 3.0)), 0.0)
    level = [[0.0] * 3] * 2
    for budget_ms in (2.0, 3.2, 4.5, 5.0, 6.0):
        choices = window_knapsack(level, costs, 0.0, budget_ms)
        assert costs.network_ms(choices) == math.floor(budget_ms)


def test_samples_are_distinct_in_the_window_and_follow_the_seed() -> None:
    scores, costs = problem(2)
    budget_ms = budget_of(costs)
    low_ms = 0.7 * budget_ms
    allowed = in_window(costs, low_ms, budget_ms)
    assert len(allowed) > 20

    def drawn(seed: int) -> list[tuple[int, ...]]:
        return window_samples(scores, costs, low_ms, budget_ms, 12, np.random.default_rng(seed))

    samples = drawn(0)
    assert len(set(samples)) == len(samples) == 12
    assert set(samples) <= set(allowed)
    assert samples[0] == window_knapsack(scores, costs, low_ms, budget_ms)
    assert drawn(0) == samples != drawn(1)


def test_a_window_of_few_networks_gives_each_once() -> None:
    costs = CostTable(((1.0, 2.0, 3.0), (1.0, 2.0, 3.0)), 0.0)
    samples = window_samples([[0.0] * 3] * 2, costs, 4.5, 5.0, 8, np.random.default_rng(0))
    assert sorted(samples) == [(1, 2), (2, 1)]


def test_random_search_gives_every_network_of_a_small_window() -> None:
    space = tiny_space(widths=(8,))
    costs = tiny_costs(space)
    strategy = RandomSearch(Supernet(space), costs, 2.0, torch.Generator())
    for low_ms, high_ms in ((1.7, 1.8), (1.6, 2.3), (0.0, 9.0)):
        choices = strategy.candidates(8, low_ms, high_ms, seed=0)
        assert sorted(g.choices for g in choices) == sorted(in_window(costs, low_ms, high_ms))
        assert len(strategy.candidates(1, low_ms, high_ms, seed=0)) == 1


@pytest.mark.parametrize("seed", range(3))
def test_on_the_pixel_1_the_network_for_60_ms_takes_57_to_60_ms(seed: int) -> None:
    space = mobile_space((3, 224, 224), 1000)
    model = published_model("pixel1", space)
    assert model is not None
    costs, rng = model.cost_table(space), np.random.default_rng(seed)
    scores = [np.log(rng.dirichlet(np.ones(len(row)))).tolist() for row in costs.mean_ms]
    for choices in window_samples(scores, costs, 57, 60, 3, rng):
        assert 57 <= costs.network_ms(choices) <= 60
