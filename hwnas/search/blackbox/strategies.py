"""Strategies that evaluate networks with a trained supernet: evolution and NSGA-II.

The supernet's weights are trained on uniform paths (Guo et al., ECCV 2020, arXiv:1904.00420), and a
network inherits them. During the search a network is evaluated on a few validation images; the best
networks are evaluated on more of them at the end (`hwnas.search.blackbox.judging`). One supernet
serves every budget and device.
"""

from __future__ import annotations

from typing import ClassVar

import msgspec
import numpy as np

from hwnas.architecture.architecture import Genotype
from hwnas.search.blackbox.judging import FINAL_IMAGES, SupernetJudge, best_judged
from hwnas.search.blackbox.problem import (
    EvaluatedSet,
    Problem,
)
from hwnas.search.blackbox.random import RandomSearch
from hwnas.search.blackbox.window import (
    evolve_window,
    first_population,
    front_window,
    window_problem,
)
from hwnas.search.knapsack import window_samples
from hwnas.search.path_training import check_paths
from hwnas.search.plan import JUDGING_IMAGES, SearchPlan
from hwnas.training.images.loader import Data


class Evolution(RandomSearch):
    """Regularised evolution inside the latency window (Real et al., AAAI 2019)."""

    traits: ClassVar = msgspec.structs.replace(RandomSearch.traits, judges=True)
    check = staticmethod(check_paths)
    queries = 0
    """Networks that a call of `candidates` evaluates (`SearchPlan.queries`); 0: networks are drawn
    at random."""
    judge: SupernetJudge
    final_judge: SupernetJudge

    def judge_on(self, valid: Data, plan: SearchPlan, images: int, seed: int) -> None:
        """Judge networks by validation images and the present weights."""
        self.queries = plan.queries(images)
        self.judge = SupernetJudge(self.weights, valid, JUDGING_IMAGES, seed)
        self.final_judge = SupernetJudge(self.weights, valid, FINAL_IMAGES, seed)

    def candidates(self, count: int, low_ms: float, high_ms: float, seed: int) -> list[Genotype]:
        if not self.queries:  # an untrained supernet can't judge
            return super().candidates(count, low_ms, high_ms, seed)
        judged = self._judge_window(low_ms, high_ms, np.random.default_rng(seed))
        rows = best_judged(judged, low_ms, high_ms, self.final_judge, count)
        if not rows:  # no network of the space lies in the window
            return super().candidates(count, low_ms, high_ms, seed)
        return [Genotype(self.supernet.space.name, row) for row in rows]

    def _problem(self, low_ms: float) -> Problem:
        return window_problem(self.costs, self.judge, low_ms)

    def _judge_window(
        self, low_ms: float, high_ms: float, rng: np.random.Generator
    ) -> EvaluatedSet:
        uniform = [[0.0] * len(row) for row in self.costs.mean_ms]
        count = first_population(self.queries)
        start = window_samples(uniform, self.costs, low_ms, high_ms, count, rng)
        rows = np.array(start, np.int64)
        return evolve_window(self._problem(low_ms), rows, high_ms, self.queries, rng)


class NSGA2(Evolution):
    """NSGA-II over accuracy and latency (Deb et al., 2002): one front serves every budget."""

    def _judge_window(
        self, low_ms: float, high_ms: float, rng: np.random.Generator
    ) -> EvaluatedSet:
        return front_window(self._problem(0.0), low_ms, high_ms, self.queries, rng)
