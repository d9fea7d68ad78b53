"""Searches for the best networks of a latency window, with a given number of judged networks."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from hwnas.latency_models.cost import CostTable
from hwnas.search.blackbox.evolution import (
    children,
    regularised_evolution,
)
from hwnas.search.blackbox.nsga2 import nsga2
from hwnas.search.blackbox.problem import (
    Choices,
    EvaluatedSet,
    Evaluator,
    Problem,
    Scores,
)

MAX_POPULATION = 100
"""Largest population, as in the paper of regularised evolution."""
FRONT_SHARE, MAX_TURNS = 0.4, 1000
"""Share of the networks that NSGA-II evaluates, and turns in which the rest are evaluated in the
window."""
MUTATION = 0.1
"""Probability that a mutant draws a decision anew."""
TRIES = 100
"""Children that are drawn per network that is evaluated; most lie outside the window."""


def window_problem(
    costs: CostTable, evaluator: Callable[[Choices], Scores], low_ms: float
) -> Problem:
    """Return the problem over a table of costs; a network faster than ``low_ms`` is excluded."""

    def latency_ms(choices: Choices) -> Scores:
        ms = costs.networks_ms(choices)
        return np.where(ms >= low_ms, ms, np.inf)

    return Problem(tuple(map(len, costs.mean_ms)), evaluator, latency_ms)


def first_population(queries: int) -> int:
    """Return the number of networks with which `evolve_window` starts."""
    return max(2, min(MAX_POPULATION, queries // 4))


def evolve_window(
    problem: Problem, start: Choices, high_ms: float, queries: int, rng: np.random.Generator
) -> EvaluatedSet:
    """Evolve networks of the window by single mutations, from ``start [N, P]``; judge ``queries``.

    The latency of ``problem`` excludes networks below the window.
    """
    size = max(2, len(start))
    return regularised_evolution(problem, high_ms, queries, rng, size, max(2, size // 4), start)


def front_window(
    problem: Problem,
    low_ms: float,
    high_ms: float,
    queries: int,
    rng: np.random.Generator,
) -> EvaluatedSet:
    """Judge a front over the whole range of latencies, then children of the best networks in the
    window, or of those near it; ``queries`` networks in all.

    The latency of ``problem`` excludes no network.
    """
    population = max(8, min(MAX_POPULATION, round(2 * queries**0.5)))
    evaluator = Evaluator(problem)
    nsga2(
        problem, rng, population, queries, queries=round(FRONT_SHARE * queries), evaluator=evaluator
    )
    for _ in range(MAX_TURNS):
        judged, count = evaluator.evaluated(), min(population // 2, queries - evaluator.queries)
        inside = np.flatnonzero((judged.latency_ms >= low_ms) & (judged.latency_ms <= high_ms))
        best = inside[np.argsort(-judged.accuracy[inside], kind="stable")][: population // 4]
        near = np.argsort(np.abs(judged.latency_ms - high_ms), kind="stable")
        parents = np.concatenate([best, near[: population // 4 - len(best)]])
        offspring = children(problem, judged.choices[parents], TRIES * count, MUTATION, rng)
        ms = problem.latency_ms(offspring)
        offspring = np.unique(offspring[(ms >= low_ms) & (ms <= high_ms)], axis=0)
        new = [row for row in rng.permutation(offspring) if evaluator.is_new(row)][:count]
        if not new:
            break
        evaluator(np.array(new))
    return evaluator.evaluated()
