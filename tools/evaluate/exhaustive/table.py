"""The stored table: accuracies, latencies and sizes of every network."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import msgspec
import numpy as np
from numpy.typing import NDArray

from hwnas.files import read_json, read_lines
from tools.evaluate.exhaustive.latencies import TARGETS, Latency
from tools.evaluate.exhaustive.problem import Choices, all_choices, architecture, space
from tools.evaluate.exhaustive.trainings import Training
from tools.lib.results import results_folder

TABLE = results_folder(__file__) / "table.json"

Floats = NDArray[np.float64]


class Row(msgspec.Struct, frozen=True):
    """One network."""

    choices: Choices
    accuracies: tuple[float, ...]
    """Test accuracy in percent, seed by seed."""
    cpu_s: tuple[float, ...]
    """Processor time of each training."""
    macs: int
    params: int
    latency_ms: dict[str, float]
    """Median latency by runtime; empty before the latencies are measured."""


class Table(NamedTuple):
    """All networks as arrays."""

    choices: NDArray[np.int64]
    """``[N, P]``."""
    accuracies: Floats
    """Test accuracies in percent, ``[N, seeds]``."""
    cpu_s: Floats
    """``[N, seeds]``."""
    macs: Floats
    latency_ms: dict[str, Floats]
    """``[N]`` by runtime."""

    @property
    def accuracy(self) -> Floats:
        """Mean over the seeds, ``[N]``: the truth of every comparison."""
        return self.accuracies.mean(1)

    @property
    def seed_std(self) -> float:
        """Standard deviation of a single training about its network's mean."""
        return float(np.sqrt(self.accuracies.var(1, ddof=1).mean()))

    @property
    def network_std(self) -> float:
        """Standard deviation of the networks' means, without the part that is due to the seeds."""
        observed = self.accuracy.var(ddof=1) - self.seed_std**2 / self.accuracies.shape[1]
        return float(np.sqrt(max(0.0, observed)))

    def place(self, choices: NDArray[np.int64]) -> NDArray[np.int64]:
        """Return the row of each network of ``choices [M, P]``."""
        sizes = tuple(map(int, self.choices.max(0) + 1))
        return np.asarray(np.ravel_multi_index(tuple(choices.T), sizes), np.int64)

    def best(self, runtime: str, budget_ms: float) -> float:
        """Return the greatest accuracy within a budget."""
        return float(self.accuracy[self.latency_ms[runtime] <= budget_ms].max())

    def budget_ms(self, runtime: str, percentile: int) -> float:
        """Return a percentile of the latencies of all networks."""
        return float(np.percentile(self.latency_ms[runtime], percentile))


def make_table(work: Path) -> list[Row]:
    """Return the table of the results in ``work``: the seeds with which all networks were trained,
    and the latencies of the runtimes on which all were measured."""
    own = space()
    networks = all_choices(own)
    trained = {
        (line.choices, line.seed): line for line in read_lines(work / "trainings.jsonl", Training)
    }
    measured = {
        (line.choices, line.runtime): line for line in read_lines(work / "latencies.jsonl", Latency)
    }
    seeds = 0
    while all((choices, seeds) in trained for choices in networks):
        seeds += 1
    runtimes = [name for name in TARGETS if all((row, name) in measured for row in networks)]
    rows: list[Row] = []
    for choices in networks:
        network = architecture(own, choices)
        trainings = [trained[choices, seed] for seed in range(seeds)]
        rows.append(
            Row(
                choices,
                tuple(round(100 * training.test_accuracy, 2) for training in trainings),
                tuple(round(training.cpu_s, 2) for training in trainings),
                network.macs,
                network.params,
                {name: round(measured[choices, name].median_ms, 6) for name in runtimes},
            )
        )
    return rows


def as_table(rows: Sequence[Row]) -> Table:
    """Return rows in the order of `all_choices` as arrays."""
    return Table(
        np.array([row.choices for row in rows], np.int64),
        np.array([row.accuracies for row in rows]).reshape(len(rows), -1),
        np.array([row.cpu_s for row in rows]).reshape(len(rows), -1),
        np.array([float(row.macs) for row in rows]),
        {name: np.array([row.latency_ms[name] for row in rows]) for name in rows[0].latency_ms},
    )


def read_table(path: Path = TABLE) -> Table:
    return as_table(read_json(path, list[Row]))
