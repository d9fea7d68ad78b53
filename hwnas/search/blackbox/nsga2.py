"""A front of accuracy and latency in one run: NSGA-II.

Deb, Pratap, Agarwal and Meyarivan, IEEE Transactions on Evolutionary Computation 6 (2), 2002: rank
by domination, spread by crowding distance, binary tournaments. Accuracy is maximised, latency
minimised; one front serves every budget.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from hwnas.search.blackbox.evolution import (
    Choices,
    Figures,
    Judge,
    Judged,
    Problem,
    children,
    drawn,
    fastest,
)


def nsga2(
    problem: Problem,
    rng: np.random.Generator,
    population: int = 200,
    generations: int = 50,
    mutation: float = 0.1,
    high_ms: float = np.inf,
) -> Judged:
    """Return all networks that were judged; `front` are the ones that matter.

    The population starts with the fastest network among random ones. Networks over ``high_ms``
    have no place in it while there are enough others.
    """
    judge = Judge(problem)
    quick = problem.canonical(fastest(problem)[None])
    living = np.concatenate([quick, drawn(problem, population - 1, rng)])
    for generation in range(generations + 1):
        accuracy, latency_ms = judge(living), problem.latency_ms(living)
        over_ms = np.maximum(latency_ms - high_ms, 0)
        _, first = np.unique(living, axis=0, return_index=True)
        ranks = non_dominated_ranks(accuracy[first] - 1e6 * over_ms[first], latency_ms[first])
        crowding = crowding_distances(accuracy[first], latency_ms[first], ranks)
        order = np.lexsort((-crowding, ranks))[:population]
        living, ranks, crowding = living[first[order]], ranks[order], crowding[order]
        if generation < generations:
            parents = _tournament(ranks, crowding, 2 * population, rng)
            born = children(problem, living[parents], population, mutation, rng)
            living = np.concatenate([living, born])
    return judge.judged()


def front(judged: Judged) -> NDArray[np.intp]:
    """Return the numbers of the networks that no other one beats in both, fastest first."""
    order = np.lexsort((-judged.accuracy, judged.latency_ms))
    best = np.maximum.accumulate(np.concatenate([[-np.inf], judged.accuracy[order]]))[:-1]
    return order[judged.accuracy[order] > best]


def non_dominated_ranks(accuracy: Figures, latency_ms: Figures) -> NDArray[np.int64]:
    """Return the front of each network: 0 where no other dominates it, 1 where only front 0 does.

    One dominates another that is nowhere better and somewhere worse.
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
    accuracy: Figures, latency_ms: Figures, ranks: NDArray[np.int64]
) -> NDArray[np.float64]:
    """Return how far each network's neighbours in its front lie apart; the ends are infinite."""
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
    ranks: NDArray[np.int64], crowding: Figures, count: int, rng: np.random.Generator
) -> Choices:
    """Draw ``count`` winners of pairs: the lower front, then the less crowded one."""
    one, other = rng.integers(0, len(ranks), (2, count))
    wins = (ranks[one] < ranks[other]) | (
        (ranks[one] == ranks[other]) & (crowding[one] >= crowding[other])
    )
    return np.where(wins, one, other)
