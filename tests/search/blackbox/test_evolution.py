"""Black-box searches keep the limit and find good networks of a small exhaustive problem."""

from __future__ import annotations

from itertools import pairwise, product

import numpy as np
import pytest

from hwnas.errors import BudgetError
from hwnas.search.blackbox.evolution import (
    EvolutionSettings,
    evolution,
    local_search,
    random_search,
    regularised_evolution,
)
from hwnas.search.blackbox.nsga2 import crowding_distances, non_dominated_ranks, nsga2, pareto_front
from hwnas.search.blackbox.problem import (
    Choices,
    EvaluatedSet,
    Evaluator,
    Problem,
    Scores,
    fastest,
    neighbours,
    repair,
)
from tools.evaluate.specialization.bayesian import expected_improvement, model_based_search, one_hot

SIZES = (4, 3, 5, 2, 4, 3)
ALL = np.array(list(product(*map(range, SIZES))), np.int64)
RNG = np.random.default_rng(7)
COSTS = [np.sort(RNG.random(size)) for size in SIZES]
GAINS = [np.sort(RNG.random(size)) for size in SIZES]
TWISTS = [RNG.normal(0, 0.3, (a, b)) for a, b in pairwise(SIZES)]


def latency_ms(choices: Choices) -> Scores:
    return sum((row[choices[:, place]] for place, row in enumerate(COSTS)), np.zeros(len(choices)))


def accuracy(choices: Choices) -> Scores:
    """Additive gains, and twists between neighbouring decisions."""
    total = sum((row[choices[:, p]] for p, row in enumerate(GAINS)), np.zeros(len(choices)))
    for place, twist in enumerate(TWISTS):
        total = total + twist[choices[:, place], choices[:, place + 1]]
    return total


PROBLEM = Problem(SIZES, accuracy, latency_ms)
LIMIT_MS = float(np.percentile(latency_ms(ALL), 25))
INSIDE = latency_ms(ALL) <= LIMIT_MS
FEW = EvolutionSettings(population=40, generations=10, islands=2)
BEST = float(accuracy(ALL)[INSIDE].max())
SEARCHES = {
    "random": lambda rng: random_search(PROBLEM, LIMIT_MS, 60, rng),
    "regularised": lambda rng: regularised_evolution(PROBLEM, LIMIT_MS, 60, rng, 20, 5),
    "model": lambda rng: model_based_search(PROBLEM, LIMIT_MS, 60, rng),
}


def rng(seed: int = 0) -> np.random.Generator:
    return np.random.default_rng(seed)


@pytest.mark.parametrize("name", SEARCHES)
def test_a_search_evaluates_its_queries_distinct_networks_in_the_limit(name: str) -> None:
    result: EvaluatedSet = SEARCHES[name](rng())
    assert len(np.unique(result.choices, axis=0)) == len(result.choices) == 60
    assert (result.latency_ms <= LIMIT_MS).all()
    np.testing.assert_array_equal(result.accuracy, accuracy(result.choices))
    np.testing.assert_array_equal(result.latency_ms, latency_ms(result.choices))


@pytest.mark.parametrize("name", SEARCHES)
def test_the_same_seed_gives_the_same_result(name: str) -> None:
    first, second = SEARCHES[name](rng(3)), SEARCHES[name](rng(3))
    np.testing.assert_array_equal(first.choices, second.choices)


def test_evolution_and_the_model_are_nearer_to_the_best_than_random_search() -> None:
    regret = {
        name: np.mean([BEST - search(rng(seed)).accuracy.max() for seed in range(12)])
        for name, search in SEARCHES.items()
    }
    assert regret["model"] < 0.5 * regret["random"]
    assert regret["regularised"] < regret["random"]


def test_evolution_finds_the_best_network_within_the_limit() -> None:
    result = evolution(PROBLEM, LIMIT_MS, rng(), FEW)
    inside = result.latency_ms <= LIMIT_MS
    assert result.accuracy[inside].max() == pytest.approx(BEST)


def test_local_search_ends_where_no_change_of_two_decisions_helps() -> None:
    start = repair(PROBLEM, ALL[100:101], LIMIT_MS, fastest(PROBLEM), rng())[0]
    end = local_search(PROBLEM, start, LIMIT_MS, Evaluator(PROBLEM), pairs=10_000)
    near = (end != ALL).sum(1) <= 2
    assert accuracy(end[None])[0] == accuracy(ALL)[near & INSIDE].max()
    assert accuracy(end[None])[0] > accuracy(start[None])[0]


def test_the_fastest_network_is_the_fastest() -> None:
    assert latency_ms(fastest(PROBLEM)[None])[0] == latency_ms(ALL).min()


def test_repair_changes_only_networks_over_the_limit() -> None:
    result = repair(PROBLEM, ALL.copy(), LIMIT_MS, fastest(PROBLEM), rng())
    assert (latency_ms(result) <= LIMIT_MS).all()
    np.testing.assert_array_equal(result[INSIDE], ALL[INSIDE])


def test_a_limit_below_the_fastest_network_is_one_clear_error() -> None:
    low_ms = 0.9 * latency_ms(ALL).min()
    with pytest.raises(BudgetError, match=r"the fastest network takes .* over the limit of"):
        evolution(PROBLEM, low_ms, rng())


def test_neighbours_are_all_networks_that_differ_in_one_decision() -> None:
    neighbourhood = neighbours(PROBLEM, ALL[55])
    assert len(np.unique(neighbourhood, axis=0)) == len(neighbourhood) == sum(SIZES) - len(SIZES)
    assert ((neighbourhood != ALL[55]).sum(1) == 1).all()


def test_equivalent_networks_are_evaluated_once() -> None:
    """The second decision has no effect where the first is 0."""

    def canonical(choices: Choices) -> Choices:
        same = choices.copy()
        same[same[:, 0] == 0, 1] = 0
        return same

    result = evolution(PROBLEM._replace(canonical=canonical), LIMIT_MS, rng(), FEW)
    np.testing.assert_array_equal(canonical(result.choices), result.choices)
    assert len(np.unique(result.choices, axis=0)) == len(result.choices)


def test_ranks_and_front_follow_the_definition_of_domination() -> None:
    accuracies, ms = np.round(rng().random((2, 60)), 1)  # with ties
    ranks = non_dominated_ranks(accuracies, ms)
    left = list(range(60))
    for rank in range(int(ranks.max()) + 1):
        free = [
            a
            for a in left
            if not any(
                accuracies[b] >= accuracies[a]
                and ms[b] <= ms[a]
                and (accuracies[b] > accuracies[a] or ms[b] < ms[a])
                for b in left
            )
        ]
        assert sorted(np.flatnonzero(ranks == rank)) == free
        left = [a for a in left if a not in free]
    best = pareto_front(EvaluatedSet(np.zeros((60, 1), np.int64), accuracies, ms))
    expected = {(accuracies[a], ms[a]) for a in np.flatnonzero(ranks == 0)}
    assert {(accuracies[a], ms[a]) for a in best} == expected and len(best) == len(expected)


def test_crowding_is_infinite_at_the_ends_and_the_neighbours_span_between() -> None:
    accuracies, ms = np.array([1.0, 2.0, 4.0, 5.0]), np.array([10.0, 20.0, 30.0, 50.0])
    result = crowding_distances(accuracies, ms, np.zeros(4, np.int64))
    assert result.tolist() == [np.inf, 3 / 4 + 20 / 40, 3 / 4 + 30 / 40, np.inf]


def test_one_run_of_nsga2_finds_nearly_the_whole_front() -> None:
    result = nsga2(PROBLEM, rng(), population=60, generations=25)
    for limit_ms in np.percentile(latency_ms(ALL), (10, 25, 50, 75)):
        best = accuracy(ALL)[latency_ms(ALL) <= limit_ms].max()
        got = result.accuracy[result.latency_ms <= limit_ms].max()
        assert best - got < 0.05 * (accuracy(ALL).max() - accuracy(ALL).min())


def test_expected_improvement_is_greater_near_good_networks() -> None:
    known = ALL[::7][:40]
    values = accuracy(known)
    values = (values - values.mean()) / values.std()
    best = known[values.argmax()]
    offered = np.concatenate([neighbours(PROBLEM, best)[:3], known[values.argmin()][None]])
    gain = expected_improvement(one_hot(PROBLEM, known), values, one_hot(PROBLEM, offered))
    assert gain[:3].min() > 10 * gain[3] >= 0
