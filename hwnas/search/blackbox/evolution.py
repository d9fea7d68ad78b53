"""Searches over any pair of accuracy and latency: random, evolution, local search.

A network is a row of choices, and both figures come from functions over many rows at once: a
supernet, a predictor, a table. Nothing here knows which.

* `random_search`: Li and Talwalkar, UAI 2019, arXiv:1902.07638.
* `regularised_evolution`: Real, Aggarwal, Huang and Le, AAAI 2019, arXiv:1802.01548.
* `evolution`: parents, mutation and crossover under a limit, as in Once-for-All (Cai et al., ICLR
  2020, arXiv:1908.09791), here with `polished` at its end.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from hwnas.errors import BudgetError

Choices = NDArray[np.int64]
"""Networks as candidate numbers, ``[N, P]``."""
Figures = NDArray[np.float64]
"""One number for each network, ``[N]``."""


def _as_it_is(choices: Choices) -> Choices:
    return choices


class Problem(NamedTuple):
    """What is searched."""

    sizes: tuple[int, ...]
    """Candidates of each decision."""
    accuracy: Callable[[Choices], Figures]
    """Of each network; the greater the better."""
    latency_ms: Callable[[Choices], Figures]
    """Of each network; cheap beside its accuracy."""
    canonical: Callable[[Choices], Choices] = _as_it_is
    """Gives networks that are the same (by choices that have no effect) the same row."""


class Judged(NamedTuple):
    """Networks in the order in which their accuracy was asked for."""

    choices: Choices
    accuracy: Figures
    latency_ms: Figures

    @property
    def best(self) -> int:
        return int(self.accuracy.argmax())


class Judge:
    """Asks for each network's accuracy once, and remembers."""

    def __init__(self, problem: Problem) -> None:
        self.problem = problem
        self.known: dict[bytes, float] = {}
        self._rows: list[Choices] = []

    def __call__(self, choices: Choices) -> Figures:
        keys = [row.tobytes() for row in choices]
        new = {key: number for number, key in enumerate(keys) if key not in self.known}
        if new:
            rows = choices[list(new.values())]
            self.known.update(zip(new, self.problem.accuracy(rows).tolist(), strict=True))
            self._rows.append(rows)
        return np.array([self.known[key] for key in keys])

    def is_new(self, row: Choices) -> bool:
        return row.tobytes() not in self.known

    @property
    def queries(self) -> int:
        return len(self.known)

    def judged(self) -> Judged:
        rows = np.concatenate(self._rows)
        accuracy = np.array(list(self.known.values()))
        return Judged(rows, accuracy, self.problem.latency_ms(rows))


def drawn(problem: Problem, count: int, rng: np.random.Generator) -> Choices:
    """Draw ``[count, P]`` uniformly from the candidates of each decision."""
    return problem.canonical(rng.integers(0, problem.sizes, (count, len(problem.sizes))))


def fastest(problem: Problem) -> Choices:
    """Return a network ``[P]`` that no change of one decision makes faster."""
    best = np.zeros(len(problem.sizes), np.int64)
    while True:
        around = np.concatenate([best[None], neighbours(problem, best)])
        winner = around[problem.latency_ms(around).argmin()]
        if (winner == best).all():
            return best
        best = winner


def neighbours(problem: Problem, row: Choices) -> Choices:
    """Return all networks that differ from ``row [P]`` in one decision, in the space's order."""
    changes = [
        (place, candidate)
        for place, size in enumerate(problem.sizes)
        for candidate in range(size)
        if candidate != row[place]
    ]
    around = np.repeat(row[None], len(changes), 0)
    around[np.arange(len(changes)), [place for place, _ in changes]] = [one for _, one in changes]
    return around


def repaired(
    problem: Problem, choices: Choices, limit_ms: float, quick: Choices, rng: np.random.Generator
) -> Choices:
    """Return networks within the limit: decisions of slow ones fall to ``quick [P]``, in a random
    order, until the network is quick enough. Raises `BudgetError` if ``quick`` itself is not."""
    if problem.latency_ms(quick[None])[0] > limit_ms:
        raise BudgetError(
            f"the fastest network takes {problem.latency_ms(quick[None])[0]:.4g} ms, over the "
            f"limit of {limit_ms:.4g} ms"
        )
    choices = problem.canonical(choices)
    slow = np.flatnonzero(problem.latency_ms(choices) > limit_ms)
    order = rng.permuted(np.tile(np.arange(choices.shape[1]), (len(slow), 1)), axis=1)
    for turn in range(choices.shape[1]):
        if not len(slow):
            break
        places = order[:, turn]
        choices[slow, places] = quick[places]
        choices[slow] = problem.canonical(choices[slow])
        still = problem.latency_ms(choices[slow]) > limit_ms
        slow, order = slow[still], order[still]
    choices[slow] = quick
    return choices


def random_search(
    problem: Problem, limit_ms: float, queries: int, rng: np.random.Generator, tries: int = 10_000
) -> Judged:
    """Judge ``queries`` different networks within the limit, drawn uniformly by rejection.

    Where ``tries`` draws for each query are not enough, the rest are `repaired` ones.
    """
    judge = Judge(problem)
    for _ in range(max(1, tries * queries // 4096)):
        batch = drawn(problem, 4096, rng)
        batch = batch[problem.latency_ms(batch) <= limit_ms]
        judge(_new(judge, batch)[: queries - judge.queries])
        if judge.queries >= queries:
            return judge.judged()
    quick = problem.canonical(fastest(problem)[None])[0]
    for _ in range(100):
        batch = repaired(problem, drawn(problem, 256, rng), limit_ms, quick, rng)
        judge(_new(judge, batch)[: queries - judge.queries])
        if judge.queries >= queries:
            break
    return judge.judged()


def _new(judge: Judge, rows: Choices) -> Choices:
    """Return the rows that were never judged, each once, in their order."""
    first = {row.tobytes(): number for number, row in reversed(list(enumerate(rows)))}
    return rows[sorted(number for key, number in first.items() if key not in judge.known)]


def regularised_evolution(
    problem: Problem,
    limit_ms: float,
    queries: int,
    rng: np.random.Generator,
    population: int = 50,
    tournament: int = 10,
    start: Choices | None = None,
) -> Judged:
    """Evolve by single mutations; the oldest of the population dies, whatever it is worth.

    It begins with ``start [N, P]``, else with random networks. A child within the limit is drawn
    among all mutants that are; what was judged before is not counted as a query.
    """
    judge = Judge(problem)
    if start is None:
        start = random_search(problem, limit_ms, min(population, queries), rng).choices
    living = deque(zip(start, judge(start).tolist(), strict=True), population)
    for _ in range(100 * queries):
        if judge.queries >= queries:
            break
        picked = rng.choice(len(living), min(tournament, len(living)), replace=False)
        parent = max((living[number] for number in picked), key=lambda one: one[1])[0]
        child = _mutated_within(problem, parent, limit_ms, rng)
        living.append((child, float(judge(child[None])[0])))
    return judge.judged()


def _mutated_within(
    problem: Problem, parent: Choices, limit_ms: float, rng: np.random.Generator
) -> Choices:
    """Return a network within the limit that differs in one decision, the parent if none does."""
    around = problem.canonical(neighbours(problem, parent))
    inside = np.flatnonzero(problem.latency_ms(around) <= limit_ms)
    inside = inside[(around[inside] != parent).any(1)]
    return around[rng.choice(inside)] if len(inside) else parent


def evolution(
    problem: Problem,
    limit_ms: float,
    rng: np.random.Generator,
    population: int = 200,
    generations: int = 30,
    islands: int = 6,
    parents: float = 0.25,
    mutation: float = 0.1,
    polish: int = 2,
) -> Judged:
    """Evolve networks within the limit; all that were judged are returned.

    Of each generation the best ``parents`` (a share) live on; half of the children are mutants
    (each decision drawn anew with probability ``mutation``), half take each decision from one of
    two parents. The ``islands`` evolve apart, the best ``polish`` of each are `polished`, and the
    best of all islands evolve once more together: a single population ends in one of several
    equally wide valleys.
    """
    judge = Judge(problem)
    quick = problem.canonical(fastest(problem)[None])[0]

    def evolved(living: Choices) -> Choices:
        scores, kept = judge(living), max(2, round(parents * population))
        for _ in range(generations):
            living, scores = _best_different(living, scores, kept)
            born = children(problem, living, population - len(living), mutation, rng)
            born = repaired(problem, born, limit_ms, quick, rng)
            living = np.concatenate([living, born])
            scores = np.concatenate([scores, judge(born)])
        best = _best_different(living, scores, population)[0]
        better = [polished(problem, row, limit_ms, judge) for row in best[:polish]]
        return np.concatenate([np.array(better, np.int64).reshape(-1, living.shape[1]), best])

    share = max(2, population // islands)
    ends = [
        evolved(repaired(problem, drawn(problem, population, rng), limit_ms, quick, rng))[:share]
        for _ in range(islands)
    ]
    if islands > 1:
        evolved(np.concatenate(ends))
    return judge.judged()


def _best_different(rows: Choices, scores: Figures, count: int) -> tuple[Choices, Figures]:
    _, first = np.unique(rows, axis=0, return_index=True)
    order = first[np.argsort(-scores[first], kind="stable")][:count]
    return rows[order], scores[order]


def children(
    problem: Problem, parents: Choices, count: int, mutation: float, rng: np.random.Generator
) -> Choices:
    """Return ``count`` children: mutants in the first half, crossings of two parents in the other.

    A mutant's decisions are drawn anew with probability ``mutation`` each.
    """
    mothers, fathers = parents[rng.integers(0, len(parents), (2, count))]
    mutants = np.arange(count) < count // 2
    others = np.where(mutants[:, None], drawn(problem, count, rng), fathers)
    chance = np.where(mutants, mutation, 0.5)[:, None]
    return np.where(rng.random(mothers.shape) < chance, others, mothers)


def polished(
    problem: Problem, row: Choices, limit_ms: float, judge: Judge, pairs: int = 1500
) -> Choices:
    """Climb from ``row [P]`` until no change of one or two decisions within the limit is better.

    Of the pairs of changes only the ``pairs`` most promising are judged: those whose two gains,
    taken alone, add up to most. A change may leave the limit alone and return with another.
    """
    best, score = row, judge(row[None])[0]
    while True:
        single = neighbours(problem, best)
        gains = judge(problem.canonical(single)) - score
        both = _pairs(problem, best, single, gains, limit_ms, pairs)
        around = problem.canonical(np.concatenate([single, both]))
        around = around[problem.latency_ms(around) <= limit_ms]
        if not len(around):
            return best
        scores = judge(around)
        if scores.max() <= score:
            return best
        best, score = around[scores.argmax()], scores.max()


def _pairs(
    problem: Problem, row: Choices, single: Choices, gains: Figures, limit_ms: float, count: int
) -> Choices:
    """Return the most promising rows with two changes at different places, within the limit."""
    places = (single != row).argmax(1)
    first, second = np.nonzero(np.triu(places[:, None] != places[None, :]))
    joined = single[first]
    joined[np.arange(len(first)), places[second]] = single[second, places[second]]
    inside = np.flatnonzero(problem.latency_ms(joined) <= limit_ms)
    total = gains[first[inside]] + gains[second[inside]]
    return joined[inside[np.argsort(-total, kind="stable")[:count]]]
