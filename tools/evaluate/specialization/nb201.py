"""Search under a latency limit on NAS-Bench-201: regret against queries, three searches.

Dong and Yang, ICLR 2020, arXiv:2001.00326. Accuracies and latencies are published measurements of
all 15,625 cells; cells without a path from input to output are excluded by their structure.
"""

from __future__ import annotations

import csv
import gzip
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import numpy as np

from hwnas.search.blackbox.evolution import (
    random_search,
    regularised_evolution,
)
from hwnas.search.blackbox.problem import (
    Choices,
    EvaluatedSet,
    Problem,
    Scores,
)
from tools.evaluate.specialization.bayesian import Features, model_based_search

EDGES = ((0, 1), (0, 2), (1, 2), (0, 3), (1, 3), (2, 3))
NONE, SKIP = 0, 1
ROUTES = ([3], [0, 4], [1, 5], [0, 2, 5])
"""The paths from input to output, as numbers of edges."""
SEQUENCE = np.array([0, 0, 1, 2, 3])
"""Digit of each operation in a sequence's number; base 4 and no digit 0, so lengths differ."""
QUERIES = (10, 25, 50, 100, 200)
PERCENTILES = (10, 25, 50)
SEARCHES: dict[str, Callable[[Problem, float, int, np.random.Generator], EvaluatedSet]] = {
    "random": random_search,
    "regularised evolution": lambda *a: regularised_evolution(*a, population=20, tournament=5),
    "model-based": lambda *a: model_based_search(*a, features=paths),
}
"""Searches of `hwnas.search` and `bayesian`, with sizes for 200 queries."""
CAVEATS = {"essential_ph_1": "whole milliseconds", "samsung_a50": "whole milliseconds"}


class Cells(NamedTuple):
    """The live cells, their accuracies in percent and latencies."""

    ops: Choices
    accuracy: Scores
    ms: dict[str, Scores]
    place: np.ndarray
    """Row of each combination of operations, -1 where it is not live."""


def read(data: Path) -> Cells:
    """Read latencies of all devices and the accuracies after full training."""
    z = np.load(data / "help_nb201.npz")
    with gzip.open(data / "analog_nb201_cifar10.csv.gz", "rt") as file:
        rows = list(csv.DictReader(file))
    column = next(name for name in rows[0] if name != "nb201_index")
    accuracy = np.full(len(z["ops"]), np.nan)
    for row in rows:
        accuracy[int(row["nb201_index"])] = float(row[column])
    alive = np.array([live(ops) for ops in z["ops"]]) & np.isfinite(accuracy)
    ops = z["ops"][alive].astype(np.int64)
    place = np.full(5**6, -1)
    place[code(ops)] = np.arange(len(ops))
    ms = {
        str(name): z["latency_ms"][alive, number].astype(np.float64)
        for number, name in enumerate(z["devices"])
    }
    return Cells(ops, accuracy[alive], ms, place)


def paths(ops: Choices) -> Features:
    """Return how often each sequence of operations leads from input to output, ``[N, 85]``.

    Sequences are without skips, and a path with ``none`` does not count, so cells that compute the
    same have the same counts (up to the order of sums).
    """
    counts = np.zeros((len(ops), 1 + 4 + 16 + 64))
    for route in ROUTES:
        taken = ops[:, route]
        number = np.zeros(len(ops), np.int64)
        for op in taken.T:
            number = np.where(op == SKIP, number, 4 * number + SEQUENCE[op])
        alive = (taken != NONE).all(1)
        counts[np.flatnonzero(alive), number[alive]] += 1
    return counts


def live(ops: np.ndarray) -> bool:
    """Return whether a path of edges other than ``none`` (code 0) leads from input to output."""
    seen = {0}
    for (start, end), op in sorted(zip(EDGES, ops, strict=True)):
        if op and start in seen:
            seen.add(end)
    return 3 in seen


def code(ops: Choices) -> np.ndarray:
    """Return each cell's number in base 5."""
    return ops @ 5 ** np.arange(6)


def problem(cells: Cells, device: str) -> Problem:
    """Return the search problem; a cell that is not live has an infinite latency."""
    ms = np.append(cells.ms[device], np.inf)
    return Problem(
        sizes=(5,) * 6,
        accuracy=lambda choices: cells.accuracy[cells.place[code(choices)]],
        latency_ms=lambda choices: ms[cells.place[code(choices)]],
    )


def regrets(cells: Cells, device: str, percentile: float, name: str, seed: int) -> list[float]:
    """Return the regret in points after each of `QUERIES`, and last the violations (0 or 1)."""
    ms = cells.ms[device]
    limit_ms = float(np.percentile(ms, percentile))
    best = cells.accuracy[ms <= limit_ms].max()
    evaluated = SEARCHES[name](
        problem(cells, device), limit_ms, QUERIES[-1], np.random.default_rng(seed)
    )
    after = np.maximum.accumulate(evaluated.accuracy)
    rows = [float(best - after[min(count, len(after)) - 1]) for count in QUERIES]
    chosen = evaluated.choices[evaluated.best]
    measured_ms = ms[cells.place[code(chosen[None])[0]]]
    return [*rows, float(measured_ms > limit_ms)]
