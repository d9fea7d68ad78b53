"""Random search in the latency window: the baseline that every search must beat.

Li and Talwalkar, UAI 2019, arXiv:1902.07638: random search with weight sharing is strong.
"""

from __future__ import annotations

from typing import ClassVar, Self

import msgspec
import numpy as np
import torch

from hwnas.architecture.architecture import Genotype
from hwnas.latency_models.cost import CostTable
from hwnas.nn.cells.supernet import CellPath
from hwnas.nn.network import Network
from hwnas.search.log import SearchMetrics
from hwnas.search.path_training import PathTraining, State
from hwnas.search.sampled_paths import (
    Paths,
    check_sampled,
    extract_network,
    path_candidates,
    sampled_supernet,
    uniform_path,
)
from hwnas.search.strategy import NoOptions, SearchContext, StepResult, StrategyTraits
from hwnas.training.compute import CPU, Compute
from hwnas.training.evaluation import batch_accuracy
from hwnas.training.images.loader import Batch


class RandomSearch:
    """Trains the supernet on uniform paths; candidates are drawn uniformly from the window."""

    traits: ClassVar = StrategyTraits(
        parallel=True, uses_objective=False, weights_ignore_costs=True
    )
    Options: ClassVar[type[msgspec.Struct]] = NoOptions
    check = staticmethod(check_sampled)

    def __init__(
        self,
        supernet: Paths,
        costs: CostTable,
        budget_ms: float,
        generator: torch.Generator,
        compute: Compute = CPU,
        **training: float,
    ) -> None:
        self.weights = PathTraining(supernet, compute, **training)
        self.generator = generator
        self.set_costs(costs, budget_ms)

    @classmethod
    def begin(cls, context: SearchContext) -> Self:
        cls.check(context.space)
        supernet, budget_ms = sampled_supernet(context), context.budget_ms
        search = cls(supernet, context.table, budget_ms, context.generator, context.compute)
        search.weights.accumulate = context.accumulate
        return search

    def set_costs(self, costs: CostTable, budget_ms: float) -> None:
        self.costs, self.budget_ms = costs, budget_ms

    @property
    def supernet(self) -> Paths:
        return self.weights.supernet

    def begin_epoch(self, warm_up: bool) -> None:
        """Nothing to do: every step draws its own path."""

    def weight_step(self, batch: Batch, learning_rate: float) -> StepResult:
        choices = uniform_path(self.supernet.space, self.costs, self.generator)
        loss, logits = self.weights.path_step(batch, choices, learning_rate)
        return StepResult(loss, batch_accuracy(logits, batch[1]))

    def architecture_step(self, batch: Batch) -> None:
        """Return ``None``: there are no architecture parameters."""

    def metrics(self) -> SearchMetrics:
        return SearchMetrics()

    def candidates(self, count: int, low_ms: float, high_ms: float, seed: int) -> list[Genotype]:
        rng = np.random.default_rng(seed)
        uniform = [[0.0] * len(row) for row in self.costs.mean_ms]
        first, *draws = path_candidates(
            self.supernet.space, uniform, self.costs, (low_ms, high_ms), count + 1, rng
        )
        # the first is no random draw but the solution for equal scores: used only if needed
        return [*draws, first][:count]

    def network(self, genotype: Genotype) -> Network | CellPath:
        return extract_network(self.supernet, genotype)

    def inherits(self, genotype: Genotype) -> bool:
        return False

    def preferences(self) -> None:
        return None

    def state_dict(self) -> State:
        return self.weights.state_dict()

    def load_state_dict(self, state: State) -> None:
        self.weights.load_state_dict(state)
