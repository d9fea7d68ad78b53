"""Strategies that evaluate networks with a trained supernet: evolution and NSGA-II.

The supernet's weights are trained on uniform paths (Guo et al., ECCV 2020, arXiv:1904.00420), and a
network inherits them. While the search goes on, a network is judged on a few validation images; the
best are judged on more of them at its end. The score is the mean probability of the labels, which
ranks networks better than the accuracy on as many images does
(tools/evaluate/exhaustive/results/ranking.md). Batch norms take the statistics of the images, as in
the code of ProxylessNAS: those of the supernet belong to other paths, and recalibrating them takes
longer than the judgement. One supernet serves every budget and device.
"""

from __future__ import annotations

import math
from typing import ClassVar

import msgspec
import numpy as np
import torch

from hwnas.architecture.architecture import Genotype
from hwnas.data.images import images_at_once
from hwnas.search.blackbox.evolution import Choices, EvaluatedSet, Problem, Scores
from hwnas.search.blackbox.random import RandomSearch
from hwnas.search.blackbox.window import (
    evolve_window,
    first_population,
    front_window,
    window_problem,
)
from hwnas.search.knapsack import window_samples
from hwnas.search.path_training import PathTraining, check_paths
from hwnas.search.plan import JUDGING_IMAGES, SearchPlan
from hwnas.search.sampled_paths import Paths
from hwnas.training.compute import full_precision
from hwnas.training.images.loader import Batch, Data

FINAL_IMAGES = 1000
"""Validation images on which the best networks are compared."""
FINALISTS = 4
"""Networks that are compared for each one that is returned."""


class SupernetJudge:
    """Scores of networks on the same validation images; each network is judged once."""

    def __init__(self, weights: PathTraining[Paths], valid: Data, count: int, seed: int) -> None:
        self.weights = weights
        sample = valid.sample(count, seed)
        parts = -(-len(sample.labels) // images_at_once(math.prod(sample.images.shape[2:])))
        # parts of equal size: a small one would have poor statistics
        self.batches: list[Batch] = list(sample.in_order(-(-len(sample.labels) // parts)))
        self.known: dict[tuple[int, ...], float] = {}

    def __call__(self, choices: Choices) -> Scores:
        return np.array([self.score(tuple(map(int, row))) for row in choices])

    def score(self, row: tuple[int, ...]) -> float:
        """Return the mean probability that the network with these choices gives the labels."""
        if row not in self.known:
            self.known[row] = self._score(row)
        return self.known[row]

    @torch.no_grad()
    def _score(self, row: tuple[int, ...]) -> float:
        supernet = self.weights.supernet.train()
        with self.weights.frozen(), self.weights.compute.autocast():
            given = [
                full_precision(supernet(images, row)).softmax(1).gather(1, labels[:, None])
                for images, labels in self.batches
            ]
        return torch.cat(given).mean().item()


class Evolution(RandomSearch):
    """Regularised evolution inside the latency window (Real et al., AAAI 2019)."""

    traits: ClassVar = msgspec.structs.replace(RandomSearch.traits, judges=True)
    check = staticmethod(check_paths)
    queries = 0
    """Networks that a call of `candidates` judges (`SearchPlan.queries`); 0: networks are drawn."""
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
        fitting = (judged.latency_ms >= low_ms) & (judged.latency_ms <= high_ms)
        order = [row for row in np.argsort(-judged.accuracy, kind="stable") if fitting[row]]
        if not order:  # no network of the space lies in the window
            return super().candidates(count, low_ms, high_ms, seed)
        finalists = judged.choices[order[: FINALISTS * count]]
        best = np.argsort(-self.final_judge(finalists), kind="stable")[:count]
        rows = [tuple(map(int, finalists[row])) for row in best]
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
