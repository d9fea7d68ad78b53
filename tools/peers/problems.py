"""Search problems whose every answer is in a table, in a file that a peer's script reads."""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

import numpy as np

from hwnas.search.blackbox.problem import (
    Choices,
    Problem,
    Scores,
)
from tools.evaluate.exhaustive.problem import Choices as Row
from tools.evaluate.exhaustive.table import read_table
from tools.evaluate.specialization import nb201

NB201_DEVICES = ("pixel3", "gold_6240")
PERCENTILES = (10, 25, 50)
NB201_QUERIES = (25, 50, 100, 200)
OWN_QUERIES = (5, 10, 20, 40)
OWN_PERCENTILES = (25, 50, 75)


class Tabular(NamedTuple):
    """A search under a limit where accuracy and latency of every network are known."""

    name: str
    sizes: Row
    """Candidates of each decision."""
    accuracy: Scores
    """Accuracy of each combination in percent; the last decision changes fastest."""
    latency_ms: Scores
    """Latency of each combination; infinite for one that is no network."""
    limit_ms: float
    queries: Row
    """Numbers of queries after which the regret is reported."""

    @property
    def best(self) -> float:
        return float(self.accuracy[self.latency_ms <= self.limit_ms].max())

    def problem(self) -> Problem:
        """Return the problem as hwnas's searches take it."""
        return Problem(
            self.sizes,
            lambda choices: self.accuracy[self.place(choices)],
            lambda choices: self.latency_ms[self.place(choices)],
        )

    def place(self, choices: Choices) -> Choices:
        return np.asarray(np.ravel_multi_index(tuple(choices.T), self.sizes), np.int64)

    def write(self, folder: Path) -> Path:
        """Write the file that a peer's script reads, and return it."""
        path = folder / f"{self.name.replace(' ', '_').replace('%', '')}.npz"
        np.savez(
            path,
            sizes=self.sizes,
            accuracy=self.accuracy,
            latency_ms=self.latency_ms,
            limit_ms=self.limit_ms,
        )
        return path


def nb201_problems(data: Path) -> list[Tabular]:
    """Return NAS-Bench-201 with the measured latencies of two devices, under three limits."""
    cells = nb201.read(data)
    sizes = (5,) * 6
    place = np.ravel_multi_index(tuple(cells.ops.T), sizes)
    problems: list[Tabular] = []
    for device in NB201_DEVICES:
        accuracy, latency_ms = np.zeros(5**6), np.full(5**6, np.inf)
        accuracy[place], latency_ms[place] = cells.accuracy, cells.ms[device]
        for percentile in PERCENTILES:
            limit_ms = float(np.percentile(cells.ms[device], percentile))
            name = f"nb201 {device} {percentile}%"
            problems.append(Tabular(name, sizes, accuracy, latency_ms, limit_ms, NB201_QUERIES))
    return problems


def own_problems(table: Path) -> list[Tabular]:
    """Return the table of all networks of a small space, on each runtime under three limits."""
    known = read_table(table)
    sizes = tuple((known.choices.max(0) + 1).tolist())
    return [
        Tabular(
            f"exhaustive {runtime} {percentile}%",
            sizes,
            known.accuracy,
            ms,
            known.budget_ms(runtime, percentile),
            OWN_QUERIES,
        )
        for runtime, ms in known.latency_ms.items()
        for percentile in OWN_PERCENTILES
    ]
