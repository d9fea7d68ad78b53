"""ProxylessNAS, gradient form: Cai, Zhu and Han, ICLR 2019, arXiv:1812.00332, section 3.

Weights and architecture parameters are trained in turn. A weight step runs one path, sampled from
``p = softmax(alpha)``. An architecture step runs one path as well and, going back, computes every
other candidate's output once without graph (one at a time), so memory is that of one path:

    dL/dalpha_i = sum_j dL/dg_j * p_j * (delta_ij - p_i),   dL/dg_j = <dL/dy, o_j(x)>   (eq. 4)

That is the estimator ``full``. With ``two`` (section 3.2.1) a decision draws two candidates, of
which one runs; the same formula holds with ``q``, the softmax of these two alone, and the step
moves probability between them only (`hwnas.search.proxyless.gates`). It costs one recomputed
candidate.

The candidate outputs ``o_j`` are those of whole blocks, shortcut included; a skip is ``o = x``.
The shortcut adds the same ``<dL/dy, x>`` to every ``dL/dg_j``, which the formula cancels, so the
skip needs no special case (the released code crashes or stops learning there).
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from typing import ClassVar, Literal, Self

import msgspec
import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from hwnas.architecture.architecture import Genotype
from hwnas.latency_models.cost import CostTable
from hwnas.nn.cells.supernet import CellPath
from hwnas.nn.network import Network
from hwnas.search.log import StepLog
from hwnas.search.objective import expected_ms, objective, padded_costs
from hwnas.search.path_training import PathTraining, State, below
from hwnas.search.proxyless.gates import draw_pairs, gated, rescaled
from hwnas.search.sampled_paths import (
    Paths,
    check_sampled,
    cut,
    derived_paths,
    drawn_path,
    path_skips,
    sampled_supernet,
)
from hwnas.search.strategy import SearchContext, StrategyTraits
from hwnas.training.distributed import average_gradients
from hwnas.training.loader import Batch

Estimator = Literal["full", "two"]


class ProxylessOptions(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Options of strategy ``proxyless``."""

    estimator: Estimator = "full"
    """Gradient of the logits: from all candidates of a decision, or from two of them."""


class ProxylessGradient:
    """Trains a supernet's weights on training data and its ``arch_logits [P, K]`` on validation."""

    traits: ClassVar = StrategyTraits(parallel=True)
    Options: ClassVar[type[msgspec.Struct]] = ProxylessOptions
    check = staticmethod(check_sampled)

    def __init__(
        self,
        supernet: Paths,
        costs: CostTable,
        budget_ms: float,
        generator: torch.Generator,
        arch_learning_rate: float = 1e-3,
        objective_name: str = "lagrangian",
        estimator: Estimator = "full",
        **training: float,
    ) -> None:
        self.weights = PathTraining(supernet, **training)
        self.generator = generator
        """Draws the paths; the loop seeds it anew each epoch."""
        self.objective = objective(objective_name, budget_ms)
        self.estimator = estimator
        self.set_costs(costs, budget_ms)
        self.arch_logits = nn.Parameter(1e-3 * torch.randn(self.mask.shape, generator=generator))
        # beta1 = 0: the logit of a candidate that has no gradient must not move
        self.arch_optimizer = torch.optim.Adam(
            [self.arch_logits], arch_learning_rate, betas=(0.0, 0.999)
        )

    @classmethod
    def begin(cls, context: SearchContext) -> Self:
        return cls(
            sampled_supernet(context),
            context.table,
            context.budget_ms,
            context.generator,
            context.arch_learning_rate,
            context.objective or "lagrangian",
            context.options_as(ProxylessOptions).estimator,
        )

    def set_costs(self, costs: CostTable, budget_ms: float) -> None:
        self.costs = costs
        self.cost_ms, self.mask = padded_costs(costs)
        self.objective.budget_ms = budget_ms

    @property
    def probs(self) -> Tensor:
        """Probability of each candidate, ``[P, K]``; zero where a decision has fewer."""
        return self.arch_logits.masked_fill(~self.mask, -torch.inf).softmax(dim=1)

    @property
    def supernet(self) -> Paths:
        return self.weights.supernet

    def begin_epoch(self, warm_up: bool) -> None:
        """Every step draws its own path."""

    def weight_step(self, batch: Batch, learning_rate: float) -> StepLog:
        loss, logits = self.weights.step(batch, self._sample(), learning_rate)
        return self._log(loss, logits, batch[1])

    def architecture_step(self, batch: Batch) -> StepLog:
        images, labels = batch
        self.supernet.train()
        pairs = draw_pairs(self.probs.detach(), self.generator) if self.estimator == "two" else None
        with frozen(self.supernet):
            probs, latency_ms = self._involved(pairs)
            path = self._sample() if pairs is None else self._active(pairs, probs)
            logits = self.supernet(images, path, partial(gated, probs, pairs))
            task_loss = F.cross_entropy(logits, labels)
            loss = self.objective.loss(task_loss, latency_ms)
            self.arch_optimizer.zero_grad()
            loss.backward()
        average_gradients([self.arch_logits])
        before = self.arch_logits.detach().clone()
        self.arch_optimizer.step()
        if pairs is not None:
            with torch.no_grad():
                self.arch_logits.copy_(rescaled(before, self.arch_logits, pairs))
        self.objective.update(latency_ms.item())
        return self._log(task_loss, logits, labels)

    def _involved(self, pairs: Tensor | None) -> tuple[Tensor, Tensor]:
        """Return the probabilities of the candidates in question and the expected latency.

        With pairs: ``q [P, 2]``, and the latency's gradient is that of the pairs as in the paper,
        its value that of all candidates, so that what depends on the value is not noise.
        """
        if pairs is None:
            probs = self.probs
            return probs, expected_ms(probs, self.cost_ms, self.costs.fixed_ms)
        probs = self.arch_logits.gather(1, pairs).softmax(dim=1)
        of_pairs_ms = (probs * self.cost_ms.gather(1, pairs)).sum()
        whole_ms = expected_ms(self.probs.detach(), self.cost_ms, self.costs.fixed_ms)
        return probs, whole_ms + of_pairs_ms - of_pairs_ms.detach()

    @torch.no_grad()
    def _active(self, pairs: Tensor, probs: Tensor) -> list[int]:
        """Draw the running candidate of each pair ``[P, 2]`` by ``probs``."""
        return pairs.gather(1, torch.multinomial(probs, 1, generator=self.generator))[:, 0].tolist()

    def candidates(self, count: int, low_ms: float, high_ms: float, seed: int) -> list[Genotype]:
        scores = [[math.log(max(prob, 1e-12)) for prob in row] for row in self.preferences()[0]]
        rng = np.random.default_rng(seed)
        return derived_paths(self.supernet.space, scores, self.costs, (low_ms, high_ms), count, rng)

    def network(self, genotype: Genotype) -> Network | CellPath:
        return cut(self.supernet, genotype)

    def inherits(self, genotype: Genotype) -> bool:
        return False

    def preferences(self) -> tuple[list[list[float]], CostTable]:
        probs = self.probs.detach().double().tolist()
        rows = zip(probs, self.costs.mean_ms, strict=True)
        return [row[: len(costs)] for row, costs in rows], self.costs

    def state_dict(self) -> State:
        state = self.weights.state_dict()
        state["arch_logits"] = self.arch_logits.detach()
        state["multiplier"] = torch.tensor(self.objective.multiplier, dtype=torch.float64)
        for name, value in self.arch_optimizer.state.get(self.arch_logits, {}).items():
            state[f"adam.{name}"] = value
        return state

    def load_state_dict(self, state: State) -> None:
        self.weights.load_state_dict(state)
        with torch.no_grad():
            self.arch_logits.copy_(state["arch_logits"])
        self.objective.multiplier = state["multiplier"].item()
        self.arch_optimizer.state.clear()
        if adam := below("adam.", state):
            self.arch_optimizer.state[self.arch_logits] = {k: v.clone() for k, v in adam.items()}

    def _sample(self) -> list[int]:
        return drawn_path(self.supernet.space, self.probs.detach(), self.generator)

    @torch.no_grad()
    def _log(self, loss: Tensor, logits: Tensor, labels: Tensor) -> StepLog:
        probs = self.probs
        counted = path_skips(self.supernet.space, probs.argmax(1).tolist()) or (None, None)
        return StepLog(
            loss=loss.item(),
            accuracy=(logits.argmax(1) == labels).float().mean().item(),
            entropy=mean_entropy(probs, self.mask),
            expected_ms=expected_ms(probs, self.cost_ms, self.costs.fixed_ms).item(),
            multiplier=self.objective.multiplier,
            skips=counted[0],
            reduction_skips=counted[1],
        )


@contextmanager
def frozen(module: nn.Module) -> Iterator[None]:
    """Keep weights without gradient and batch norm statistics as they are."""
    norms = [norm for norm in module.modules() if isinstance(norm, nn.BatchNorm2d)]
    parameters = [parameter for parameter in module.parameters() if parameter.requires_grad]
    for parameter in parameters:
        parameter.requires_grad_(False)
    for norm in norms:
        norm.track_running_stats = False
    try:
        yield
    finally:
        for parameter in parameters:
            parameter.requires_grad_(True)
        for norm in norms:
            norm.track_running_stats = True


def mean_entropy(probs: Tensor, mask: Tensor) -> float:
    """Return the mean over decisions of ``H(p) / ln K`` for ``probs [P, K]``."""
    surprise = -(probs * probs.clamp_min(1e-12).log()).sum(1)
    return (surprise / mask.sum(1).clamp_min(2).log()).mean().item()
