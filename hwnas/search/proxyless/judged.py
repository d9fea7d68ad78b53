"""The choice of networks after a ProxylessNAS search: probable ones, evaluated on the supernet.

The probabilities of a search of some hundred steps rank networks much worse than its supernet does
(tools/evaluate/exhaustive/results/choice.md), so they only propose: networks are drawn from them
within the window of latencies, evolve from there by single mutations, and are compared by the
probability of the labels (`hwnas.search.blackbox.judging`).
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from hwnas.architecture.architecture import Genotype
from hwnas.latency_models.cost import CostTable
from hwnas.nn.supernet import Supernet
from hwnas.search.blackbox.judging import FINAL_IMAGES, SupernetJudge, best_judged
from hwnas.search.blackbox.problem import (
    Choices,
    EvaluatedSet,
)
from hwnas.search.blackbox.window import evolve_window, first_population, window_problem
from hwnas.search.path_training import PathTraining
from hwnas.search.plan import JUDGING_IMAGES
from hwnas.search.sampled_paths import Paths
from hwnas.training.images.loader import Data


class JudgedChoice:
    """Judges networks by validation images and the weights of a supernet."""

    def __init__(self, weights: PathTraining[Paths], valid: Data, queries: int, seed: int) -> None:
        """``queries`` is the number of networks that a call of `best` judges."""
        self.supernet = weights.supernet
        self.queries = queries
        self.judge = SupernetJudge(weights, valid, JUDGING_IMAGES, seed)
        self.final_judge = SupernetJudge(weights, valid, FINAL_IMAGES, seed)

    @property
    def drawn(self) -> int:
        """Number of probable networks that `best` starts from."""
        return first_population(self.queries)

    def best(
        self,
        probable: Sequence[Genotype],
        costs: CostTable,
        window_ms: tuple[float, float],
        count: int,
        seed: int,
    ) -> list[Genotype]:
        """Return the best networks in the window, from probable ones there.

        If no network lies in the window, return the probable ones, the most probable first.
        """
        low_ms, high_ms = window_ms
        start = np.array([genotype.choices for genotype in probable], np.int64)
        judged = self._judged(start, costs, low_ms, high_ms, np.random.default_rng(seed))
        rows = best_judged(judged, low_ms, high_ms, self.final_judge, count)
        return [Genotype(self.supernet.space.name, row) for row in rows] or list(probable[:count])

    def _judged(
        self,
        start: Choices,
        costs: CostTable,
        low_ms: float,
        high_ms: float,
        rng: np.random.Generator,
    ) -> EvaluatedSet:
        """Evaluate networks ``[N, P]`` and networks that evolve from them.

        Cells do not evolve, since a mutation may give a node the same source twice.
        """
        if not isinstance(self.supernet, Supernet) or costs.networks_ms(start).min() < low_ms:
            return EvaluatedSet(start, self.judge(start), costs.networks_ms(start))
        problem = window_problem(costs, self.judge, low_ms)
        return evolve_window(problem, start, high_ms, self.queries, rng)
