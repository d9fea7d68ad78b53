"""The Pareto front of accuracy and latency in one run: NSGA-II.

Deb, Pratap, Agarwal and Meyarivan, IEEE Transactions on Evolutionary Computation 6 (2), 2002: rank
by domination, spread by crowding distance, binary tournaments. Accuracy is maximised, latency
minimised; one front serves every budget.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from hwnas.search.blackbox.evolution import children
from hwnas.search.blackbox.problem import (
    Choices,
    EvaluatedSet,
    Evaluator,
    Problem,
    Scores,
    fastest,
    random_choices,
)


def nsga2(
    problem: Problem,
    rng: np.random.Generator,
    population: int = 200,
    generations: int = 50,
    mutation: float = 0.1,
    high_ms: float = np.inf,
    queries: int | None = None,
    evaluator: Evaluator | None = None,
) -> EvaluatedSet:
    """Return all networks that were evaluated; `pareto_front` selects the best of them.

    The first population is the fastest network and random ones. Networks slower than ``high_ms``
    survive only where there are too few others. It ends before ``generations`` where ``queries``
    networks have been evaluated. ``evaluator`` may hold networks of earlier searches.
    """
    evaluator = evaluator or Evaluator(problem)
    fallback = problem.canonical(fastest(problem)[None])
    members = np.concatenate([fallback, random_choices(problem, population - 1, rng)])
    for generation in range(generations + 1):
        if queries is not None:
            members = _first_new(evaluator, members, queries - evaluator.queries)
        accuracy, latency_ms = evaluator(members), problem.latency_ms(members)
        over_ms = np.maximum(latency_ms - high_ms, 0)
        _, first = np.unique(members, axis=0, return_index=True)
        ranks = non_dominated_ranks(accuracy[first] - 1e6 * over_ms[first], latency_ms[first])
        crowding = crowding_distances(accuracy[first], latency_ms[first], ranks)
        order = np.lexsort((-crowding, ranks))[:population]
        members, ranks, crowding = members[first[order]], ranks[order], crowding[order]
        if queries is not None and evaluator.queries >= queries:
            break
        if generation < generations:
            parents = _tournament(ranks, crowding, 2 * population, rng)
            offspring = children(problem, members[parents], population, mutation, rng)
            members = np.concatenate([members, offspring])
    return evaluator.evaluated()


def _first_new(evaluator: Evaluator, rows: Choices, count: int) -> Choices:
    """Return the rows without the new ones after the first ``count`` new ones."""
    new: set[bytes] = set()
    allowed: list[int] = []
    for number, row in enumerate(rows):
        if evaluator.is_new(row) and row.tobytes() not in new:
            if len(new) >= count:
                continue
            new.add(row.tobytes())
        allowed.append(number)
    return rows[allowed]


def pareto_front(evaluated: EvaluatedSet) -> NDArray[np.intp]:
    """Return the indices of the networks that no other dominates, fastest first."""
    order = np.lexsort((-evaluated.accuracy, evaluated.latency_ms))
    best = np.maximum.accumulate(np.concatenate([[-np.inf], evaluated.accuracy[order]]))[:-1]
    return order[evaluated.accuracy[order] > best]


def non_dominated_ranks(accuracy: Scores, latency_ms: Scores) -> NDArray[np.int64]:
    """Return the rank of the front of each network: 0 where no other network dominates it, 1 where
    only networks of front 0 do.

    A network dominates another if it is no worse in both objectives and better in one.
    """
    no_worse = (accuracy[:, None] >= accuracy) & (latency_ms[:, None] <= latency_ms)
    better = (accuracy[:, None] > accuracy) | (latency_ms[:, None] < latency_ms)
    dominates = no_worse & better
    left = dominates.sum(0)
    ranks = np.full(len(accuracy), -1, np.int64)
    rank = 0
    while (open_ := ranks < 0).any():
        now = open_ & (left == 0)
        ranks[now] = rank
        left = left - dominates[now].sum(0)
        rank += 1
    return ranks


def crowding_distances(
    accuracy: Scores, latency_ms: Scores, ranks: NDArray[np.int64]
) -> NDArray[np.float64]:
    """Return the crowding distance of each network in its front; infinite at both ends."""
    distances = np.zeros(len(ranks))
    for rank in np.unique(ranks):
        rows = np.flatnonzero(ranks == rank)
        for values in (accuracy, latency_ms):
            order = rows[np.argsort(values[rows], kind="stable")]
            span = values[order[-1]] - values[order[0]]
            distances[order[[0, -1]]] = np.inf
            if len(order) > 2 and span > 0:
                distances[order[1:-1]] += (values[order[2:]] - values[order[:-2]]) / span
    return distances


def _tournament(
    ranks: NDArray[np.int64], crowding: Scores, count: int, rng: np.random.Generator
) -> Choices:
    """Draw ``count`` winners of binary tournaments, by rank, then by crowding distance."""
    first, second = rng.integers(0, len(ranks), (2, count))
    wins = (ranks[first] < ranks[second]) | (
        (ranks[first] == ranks[second]) & (crowding[first] >= crowding[second])
    )
    return np.where(wins, first, second)
