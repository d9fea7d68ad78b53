"""Evaluation of networks on validation images, with the weights of a trained supernet.

The score is the mean probability of the labels, which ranks networks better than the accuracy on as
many images does (tools/evaluate/exhaustive/results/ranking.md). Batch norms use the statistics of
these images, as in the code of ProxylessNAS: the supernet's statistics belong to other paths, and
recalibrating them takes longer than the evaluation.
"""

from __future__ import annotations

import math

import numpy as np
import torch

from hwnas.data.images import images_at_once
from hwnas.search.blackbox.problem import (
    Choices,
    EvaluatedSet,
    Scores,
)
from hwnas.search.path_training import PathTraining
from hwnas.search.sampled_paths import Paths
from hwnas.training.compute import full_precision
from hwnas.training.images.loader import Batch, Data

FINAL_IMAGES = 1000
"""Validation images on which the best networks are compared."""
FINALISTS = 4
"""Networks that are compared per network that is returned."""


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


def best_judged(
    judged: EvaluatedSet, low_ms: float, high_ms: float, final_judge: SupernetJudge, count: int
) -> list[tuple[int, ...]]:
    """Return the choices of the best networks in the window, the best first; empty if there are
    none.

    The `FINALISTS` for each of the ``count`` networks are compared by ``final_judge``.
    """
    inside = (judged.latency_ms >= low_ms) & (judged.latency_ms <= high_ms)
    order = [row for row in np.argsort(-judged.accuracy, kind="stable") if inside[row]]
    finalists = judged.choices[order[: FINALISTS * count]]
    best = np.argsort(-final_judge(finalists), kind="stable")[:count]
    return [tuple(map(int, finalists[row])) for row in best]
