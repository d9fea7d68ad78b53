"""Strategies that evaluate networks with a trained supernet: evolution and NSGA-II.

The supernet's weights are trained on uniform paths (Guo et al., ECCV 2020, arXiv:1904.00420); a
network inherits them, its batch norm statistics are recalibrated, and its score is its accuracy on
validation images. One supernet serves every budget and device.
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
    EvaluatedSet,
    Evaluator,
    Problem,
    Scores,
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
from hwnas.training.evaluation import accuracy, recalibrate
from hwnas.training.images.loader import Data

RECALIBRATION_IMAGES, SCORE_IMAGES = 256, 1000
"""Training images for the statistics of a network, and validation images for its score."""


class SupernetEvaluator:
    """Accuracy of networks with the weights of a supernet; each network is evaluated once."""

    def __init__(self, search: RandomSearch, train: Data, valid: Data, seed: int) -> None:
        self.search = search
        self.train = train.sample(RECALIBRATION_IMAGES, seed)
        self.valid = valid.sample(SCORE_IMAGES, seed)
        self.known: dict[tuple[int, ...], float] = {}

    def __call__(self, choices: Choices) -> Scores:
        return np.array([self._accuracy(tuple(map(int, row))) for row in choices])

    def _accuracy(self, row: tuple[int, ...]) -> float:
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
    """Networks that a call of `candidates` evaluates."""
    evaluator: Callable[[Choices], Scores]

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
        """Train the supernet; networks are evaluated by `candidates`."""
        run_search(self, train, valid, plan, seed, files, rounds, on_line)
        self.evaluator = SupernetEvaluator(self, train, valid, seed)

    def candidates(self, count: int, low_ms: float, high_ms: float, seed: int) -> list[Genotype]:
        problem = window_problem(self.costs, self.evaluator, low_ms)
        evaluated = self._evaluate_window(problem, low_ms, high_ms, np.random.default_rng(seed))
        fitting = (evaluated.latency_ms >= low_ms) & (evaluated.latency_ms <= high_ms)
        order = [row for row in np.argsort(-evaluated.accuracy, kind="stable") if fitting[row]]
        rows = [tuple(map(int, evaluated.choices[row])) for row in order[:count]]
        if not rows:  # no network of the space lies in the window
            return super().candidates(count, low_ms, high_ms, seed)
        return [Genotype(self.supernet.space.name, row) for row in rows]

    def _evaluate_window(
        self, problem: Problem, low_ms: float, high_ms: float, rng: np.random.Generator
    ) -> EvaluatedSet:
        uniform = [[0.0] * len(row) for row in self.costs.mean_ms]
        start = window_samples(uniform, self.costs, low_ms, high_ms, self.queries // 3, rng)
        return regularised_evolution(
            problem, high_ms, self.queries, rng, self.queries // 3, 8, np.array(start, np.int64)
        )


class NSGA2(Evolution):
    """NSGA-II over accuracy and latency (Deb et al., 2002): one front serves every budget."""

    queries = 120
    generations = 5

    def _evaluate_window(
        self, problem: Problem, low_ms: float, high_ms: float, rng: np.random.Generator
    ) -> EvaluatedSet:
        """Evaluate a front over the whole range, then children of its networks near the window."""
        count = self.queries // 6
        whole_range = window_problem(self.costs, self.evaluator, 0.0)
        front = nsga2(whole_range, rng, count, self.generations)
        near = front.choices[np.argsort(np.abs(front.latency_ms - high_ms))[:count]]
        offspring = children(problem, near, 50 * self.queries, 0.1, rng)
        ms = problem.latency_ms(offspring)
        offspring = np.unique(offspring[(ms >= low_ms) & (ms <= high_ms)], axis=0)
        evaluator = Evaluator(problem)
        evaluator(front.choices)
        evaluator(rng.permutation(offspring)[:count])
        return evaluator.evaluated()


def window_problem(
    costs: CostTable, evaluator: Callable[[Choices], Scores], low_ms: float
) -> Problem:
    """Return the problem over a table of costs; a network faster than ``low_ms`` is excluded."""

    def latency_ms(choices: Choices) -> Scores:
        ms = costs.networks_ms(choices)
        return np.where(ms >= low_ms, ms, np.inf)

    return Problem(tuple(map(len, costs.mean_ms)), evaluator, latency_ms)
