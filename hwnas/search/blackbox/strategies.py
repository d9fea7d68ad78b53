"""Strategies that judge networks with a trained supernet: evolution, and a front of two figures.

The supernet's weights are trained on uniform paths (Guo et al., ECCV 2020, arXiv:1904.00420); a
network inherits them, its batch norm statistics are averaged anew, and its accuracy on validation
images is its score. One supernet serves any budget and device.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import ClassVar

import msgspec
import numpy as np

from hwnas.architecture.architecture import Genotype
from hwnas.latency_models.cost import CostTable
from hwnas.search.blackbox.evolution import (
    Choices,
    Figures,
    Judge,
    Judged,
    Problem,
    children,
    regularised_evolution,
)
from hwnas.search.blackbox.nsga2 import nsga2
from hwnas.search.blackbox.random import RandomSearch
from hwnas.search.knapsack import window_samples
from hwnas.search.log import OnLine
from hwnas.search.loop import run_search
from hwnas.search.path_training import check_paths
from hwnas.search.plan import SearchFiles, SearchPlan
from hwnas.training.loader import Data
from hwnas.training.loop import accuracy, recalibrate

RECALIBRATED, SCORED = 256, 1000
"""Training images for the statistics of a network, and validation images for its score."""


class SupernetJudge:
    """Accuracies of networks with a supernet's weights, each asked for once."""

    def __init__(self, search: RandomSearch, train: Data, valid: Data, seed: int) -> None:
        self.search = search
        self.train, self.valid = train.drawn(RECALIBRATED, seed), valid.drawn(SCORED, seed)
        self.known: dict[tuple[int, ...], float] = {}

    def __call__(self, choices: Choices) -> Figures:
        return np.array([self._one(tuple(map(int, row))) for row in choices])

    def _one(self, row: tuple[int, ...]) -> float:
        if row not in self.known:
            network = self.search.network(Genotype(self.search.supernet.space.name, row))
            recalibrate(network, self.train)
            self.known[row] = accuracy(network, self.valid)
        return self.known[row]


class Evolution(RandomSearch):
    """Regularised evolution inside the latency window (Real et al., AAAI 2019)."""

    traits: ClassVar = msgspec.structs.replace(RandomSearch.traits, own_loop=True)
    check = staticmethod(check_paths)
    queries = 80
    """Networks that are judged for one call of `candidates`."""
    judge: Callable[[Choices], Figures]

    def search(
        self,
        train: Data,
        valid: Data,
        plan: SearchPlan,
        seed: int,
        files: SearchFiles,
        rounds: int = 1,
        on_line: OnLine | None = None,
    ) -> None:
        """Train the supernet; networks are judged when `candidates` asks for them."""
        run_search(self, train, valid, plan, seed, files, rounds, on_line)
        self.judge = SupernetJudge(self, train, valid, seed)

    def candidates(self, count: int, low_ms: float, high_ms: float, seed: int) -> list[Genotype]:
        problem = inside(self.costs, self.judge, low_ms)
        judged = self._judged(problem, low_ms, high_ms, np.random.default_rng(seed))
        fitting = (judged.latency_ms >= low_ms) & (judged.latency_ms <= high_ms)
        order = [row for row in np.argsort(-judged.accuracy, kind="stable") if fitting[row]]
        rows = [tuple(map(int, judged.choices[row])) for row in order[:count]]
        if not rows:  # no network of the space lies in the window
            return super().candidates(count, low_ms, high_ms, seed)
        return [Genotype(self.supernet.space.name, row) for row in rows]

    def _judged(
        self, problem: Problem, low_ms: float, high_ms: float, rng: np.random.Generator
    ) -> Judged:
        level = [[0.0] * len(row) for row in self.costs.mean_ms]
        start = window_samples(level, self.costs, low_ms, high_ms, self.queries // 3, rng)
        return regularised_evolution(
            problem, high_ms, self.queries, rng, self.queries // 3, 8, np.array(start, np.int64)
        )


class Front(Evolution):
    """NSGA-II over accuracy and latency: its first front serves every budget (Deb et al., 2002)."""

    queries = 120
    generations = 5

    def _judged(
        self, problem: Problem, low_ms: float, high_ms: float, rng: np.random.Generator
    ) -> Judged:
        """Judge a front over the whole range once, then children of what is near the window."""
        front = nsga2(inside(self.costs, self.judge, 0.0), rng, self.queries // 6, self.generations)
        near = front.choices[np.argsort(np.abs(front.latency_ms - high_ms))[: self.queries // 6]]
        born = children(problem, near, 50 * self.queries, 0.1, rng)
        ms = problem.latency_ms(born)
        born = np.unique(born[(ms >= low_ms) & (ms <= high_ms)], axis=0)
        judge = Judge(problem)
        judge(front.choices)
        judge(rng.permutation(born)[: self.queries // 6])
        return judge.judged()


def inside(costs: CostTable, judge: Callable[[Choices], Figures], low_ms: float) -> Problem:
    """Return the search over a table of costs; what is faster than ``low_ms`` is out of it."""

    def latency_ms(choices: Choices) -> Figures:
        ms = costs.networks_ms(choices)
        return np.where(ms >= low_ms, ms, np.inf)

    return Problem(tuple(map(len, costs.mean_ms)), judge, latency_ms)
