"""Searches over any pair of accuracy and latency: random, evolution, local search.

* `random_search`: Li and Talwalkar, UAI 2019, arXiv:1902.07638.
* `regularised_evolution`: Real, Aggarwal, Huang and Le, AAAI 2019, arXiv:1802.01548.
* `evolution`: parents, mutation and crossover under a limit, as in Once-for-All (Cai et al., ICLR
  2020, arXiv:1908.09791), here with a final `local_search`.
"""

from __future__ import annotations

from collections import deque

import msgspec
import numpy as np

from hwnas.search.blackbox.problem import (
    Choices,
    EvaluatedSet,
    Evaluator,
    Problem,
    Scores,
    fastest,
    neighbours,
    random_choices,
    repair,
)

PAIRS = 256
"""Random pairs of changes that are tried if no single change stays within the limit."""


def random_search(
    problem: Problem, limit_ms: float, queries: int, rng: np.random.Generator, tries: int = 10_000
) -> EvaluatedSet:
    """Evaluate ``queries`` distinct networks within the limit, drawn uniformly by rejection.

    If ``tries`` draws per query are not enough, the remaining networks are drawn and repaired
    (`repair`).
    """
    evaluator = Evaluator(problem)
    for _ in range(max(1, tries * queries // 4096)):
        batch = random_choices(problem, 4096, rng)
        batch = batch[problem.latency_ms(batch) <= limit_ms]
        evaluator(_unseen(evaluator, batch)[: queries - evaluator.queries])
        if evaluator.queries >= queries:
            return evaluator.evaluated()
    fallback = problem.canonical(fastest(problem)[None])[0]
    for _ in range(100):
        batch = repair(problem, random_choices(problem, 256, rng), limit_ms, fallback, rng)
        evaluator(_unseen(evaluator, batch)[: queries - evaluator.queries])
        if evaluator.queries >= queries:
            break
    return evaluator.evaluated()


def _unseen(evaluator: Evaluator, rows: Choices) -> Choices:
    """Return the rows that were not evaluated yet, each once, in their order."""
    first = {row.tobytes(): number for number, row in reversed(list(enumerate(rows)))}
    return rows[sorted(number for key, number in first.items() if key not in evaluator.known)]


def regularised_evolution(
    problem: Problem,
    limit_ms: float,
    queries: int,
    rng: np.random.Generator,
    population: int = 50,
    tournament: int = 10,
    start: Choices | None = None,
) -> EvaluatedSet:
    """Evolve by single mutations; the oldest network leaves the population, however good it is.

    The first population is ``start [N, P]``, or random networks. A child is drawn uniformly from
    all mutants within the limit; evaluating a network again does not count as a query.
    """
    evaluator = Evaluator(problem)
    if start is None:
        start = random_search(problem, limit_ms, min(population, queries), rng).choices
    members = deque(zip(start, evaluator(start).tolist(), strict=True), population)
    for _ in range(100 * queries):
        if evaluator.queries >= queries:
            break
        picked = rng.choice(len(members), min(tournament, len(members)), replace=False)
        parent = max((members[number] for number in picked), key=lambda member: member[1])[0]
        child = _mutate_within(problem, parent, limit_ms, rng)
        members.append((child, float(evaluator(child[None])[0])))
    return evaluator.evaluated()


def _mutate_within(
    problem: Problem, parent: Choices, limit_ms: float, rng: np.random.Generator
) -> Choices:
    """Return a random neighbour within the limit; if it has none, as in a narrow window of
    latencies, a network with two changes that compensate for each other, or the parent."""
    single = neighbours(problem, parent)
    first, second = (
        single[rng.integers(0, len(single), (2, PAIRS))] if len(single) else (single,) * 2
    )
    both = np.where(first != parent, first, second)
    for changed in (single, both):
        changed = problem.canonical(changed)
        inside = problem.latency_ms(changed) <= limit_ms
        if (inside := inside & (changed != parent).any(1)).any():
            return changed[rng.choice(np.flatnonzero(inside))]
    return parent


class EvolutionSettings(msgspec.Struct, frozen=True, kw_only=True):
    """Settings of `evolution`; ``parents`` and ``mutation`` are those of the paper."""

    population: int = 200
    generations: int = 30
    islands: int = 6
    """Populations that evolve separately before their best networks evolve together."""
    parents: float = 0.25
    """Share of a generation that survives."""
    mutation: float = 0.1
    """Probability that a mutant draws a decision anew."""
    polish: int = 2
    """Networks of each population that `local_search` improves."""


SETTINGS = EvolutionSettings()


def evolution(
    problem: Problem,
    limit_ms: float,
    rng: np.random.Generator,
    settings: EvolutionSettings = SETTINGS,
) -> EvaluatedSet:
    """Evolve networks within the limit; return all that were evaluated.

    The best of each generation survive as parents; half of the children are mutants, half take each
    decision from one of two parents. The islands evolve separately, the best networks of each are
    improved by `local_search`, and the best of all islands evolve once more together: a single
    population converges to one of several local optima of similar quality.
    """
    evaluator, population = Evaluator(problem), settings.population
    fallback = problem.canonical(fastest(problem)[None])[0]

    def evolve(members: Choices) -> Choices:
        scores, survivors = evaluator(members), max(2, round(settings.parents * population))
        for _ in range(settings.generations):
            members, scores = _best_distinct(members, scores, survivors)
            count = population - len(members)
            offspring = children(problem, members, count, settings.mutation, rng)
            offspring = repair(problem, offspring, limit_ms, fallback, rng)
            members = np.concatenate([members, offspring])
            scores = np.concatenate([scores, evaluator(offspring)])
        best = _best_distinct(members, scores, population)[0]
        better = [
            local_search(problem, row, limit_ms, evaluator) for row in best[: settings.polish]
        ]
        return np.concatenate([np.array(better, np.int64).reshape(-1, members.shape[1]), best])

    size = max(2, population // settings.islands)
    best: list[Choices] = []
    for _ in range(settings.islands):
        start = random_choices(problem, population, rng)
        best.append(evolve(repair(problem, start, limit_ms, fallback, rng))[:size])
    if settings.islands > 1:
        evolve(np.concatenate(best))
    return evaluator.evaluated()


def _best_distinct(rows: Choices, scores: Scores, count: int) -> tuple[Choices, Scores]:
    _, first = np.unique(rows, axis=0, return_index=True)
    order = first[np.argsort(-scores[first], kind="stable")][:count]
    return rows[order], scores[order]


def children(
    problem: Problem, parents: Choices, count: int, mutation: float, rng: np.random.Generator
) -> Choices:
    """Return ``count`` children: half are mutants, half are crossovers of two parents.

    Each decision of a mutant is drawn anew with probability ``mutation``.
    """
    mothers, fathers = parents[rng.integers(0, len(parents), (2, count))]
    mutants = np.arange(count) < count // 2
    others = np.where(mutants[:, None], random_choices(problem, count, rng), fathers)
    chance = np.where(mutants, mutation, 0.5)[:, None]
    return np.where(rng.random(mothers.shape) < chance, others, mothers)


def local_search(
    problem: Problem, row: Choices, limit_ms: float, evaluator: Evaluator, pairs: int = 1500
) -> Choices:
    """Hill-climb from ``row [P]`` until no change of one or two decisions within the limit helps.

    Only the ``pairs`` most promising pairs of changes are evaluated: those with the greatest sum of
    the gains of both changes alone. One change of a pair may exceed the limit if the other
    compensates for it.
    """
    best, score = row, evaluator(row[None])[0]
    while True:
        single = neighbours(problem, best)
        gains = evaluator(problem.canonical(single)) - score
        both = _pairs(problem, best, single, gains, limit_ms, pairs)
        neighbourhood = problem.canonical(np.concatenate([single, both]))
        neighbourhood = neighbourhood[problem.latency_ms(neighbourhood) <= limit_ms]
        if not len(neighbourhood):
            return best
        scores = evaluator(neighbourhood)
        if scores.max() <= score:
            return best
        best, score = neighbourhood[scores.argmax()], scores.max()


def _pairs(
    problem: Problem, row: Choices, single: Choices, gains: Scores, limit_ms: float, count: int
) -> Choices:
    """Return the most promising rows with two changes at different places, within the limit."""
    places = (single != row).argmax(1)
    first, second = np.nonzero(np.triu(places[:, None] != places[None, :]))
    joined = single[first]
    joined[np.arange(len(first)), places[second]] = single[second, places[second]]
    inside = np.flatnonzero(problem.latency_ms(joined) <= limit_ms)
    total = gains[first[inside]] + gains[second[inside]]
    return joined[inside[np.argsort(-total, kind="stable")[:count]]]
