"""A search problem over rows of choices: accuracy and latency, neighbours, and repair to a limit.

A network is a row of choices. Accuracy and latency come from functions of many rows at once, e.g.
a supernet, a predictor or a table; the searches over a problem do not depend on which.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from hwnas.errors import BudgetError

Choices = NDArray[np.int64]
"""Networks as candidate numbers, ``[N, P]``."""
Scores = NDArray[np.float64]
"""A number for each network, ``[N]``."""


def _identity(choices: Choices) -> Choices:
    return choices


class Problem(NamedTuple):
    """A search problem: accuracy to be maximised over discrete decisions, and latency."""

    sizes: tuple[int, ...]
    """Candidates of each decision."""
    accuracy: Callable[[Choices], Scores]
    """Accuracy of each network, expensive."""
    latency_ms: Callable[[Choices], Scores]
    """Latency of each network, cheap."""
    canonical: Callable[[Choices], Choices] = _identity
    """Maps equivalent networks (whose choices differ without effect) to the same row."""


class EvaluatedSet(NamedTuple):
    """Evaluated networks with their accuracies and latencies, in order of evaluation."""

    choices: Choices
    accuracy: Scores
    latency_ms: Scores

    @property
    def best(self) -> int:
        return int(self.accuracy.argmax())


class Evaluator:
    """Evaluates the accuracy of each network once and caches it."""

    def __init__(self, problem: Problem) -> None:
        self.problem = problem
        self.known: dict[bytes, float] = {}
        self._rows: list[Choices] = []

    def __call__(self, choices: Choices) -> Scores:
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

    def evaluated(self) -> EvaluatedSet:
        rows = np.concatenate(self._rows)
        accuracy = np.array(list(self.known.values()))
        return EvaluatedSet(rows, accuracy, self.problem.latency_ms(rows))


def random_choices(problem: Problem, count: int, rng: np.random.Generator) -> Choices:
    """Draw ``[count, P]`` uniformly from the candidates of each decision."""
    return problem.canonical(rng.integers(0, problem.sizes, (count, len(problem.sizes))))


def fastest(problem: Problem) -> Choices:
    """Return a network ``[P]`` that no change of one decision makes faster."""
    best = np.zeros(len(problem.sizes), np.int64)
    while True:
        neighbourhood = np.concatenate([best[None], neighbours(problem, best)])
        winner = neighbourhood[problem.latency_ms(neighbourhood).argmin()]
        if (winner == best).all():
            return best
        best = winner


def neighbours(problem: Problem, row: Choices) -> Choices:
    """Return all networks that differ from ``row [P]`` in one decision, in order of decisions."""
    changes = [
        (place, candidate)
        for place, size in enumerate(problem.sizes)
        for candidate in range(size)
        if candidate != row[place]
    ]
    places, candidates = np.array(changes, np.int64).reshape(-1, 2).T
    neighbourhood = np.repeat(row[None], len(changes), 0)
    neighbourhood[np.arange(len(changes)), places] = candidates
    return neighbourhood


def repair(
    problem: Problem,
    choices: Choices,
    limit_ms: float,
    fallback: Choices,
    rng: np.random.Generator,
) -> Choices:
    """Return the networks, changed where necessary to be within the limit.

    Decisions of a network that is too slow are set to those of ``fallback [P]``, in random order,
    until it is fast enough. Raises `BudgetError` if ``fallback`` is too slow itself.
    """
    fallback_ms = problem.latency_ms(fallback[None])[0]
    if fallback_ms > limit_ms:
        raise BudgetError(
            f"the fastest network takes {fallback_ms:.4g} ms, over the limit of {limit_ms:.4g} ms"
        )
    choices = problem.canonical(choices)
    slow = np.flatnonzero(problem.latency_ms(choices) > limit_ms)
    order = rng.permuted(np.tile(np.arange(choices.shape[1]), (len(slow), 1)), axis=1)
    for turn in range(choices.shape[1]):
        if not len(slow):
            break
        places = order[:, turn]
        choices[slow, places] = fallback[places]
        choices[slow] = problem.canonical(choices[slow])
        still = problem.latency_ms(choices[slow]) > limit_ms
        slow, order = slow[still], order[still]
    choices[slow] = fallback
    return choices
