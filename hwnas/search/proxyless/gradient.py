"""ProxylessNAS, gradient form: Cai, Zhu and Han, ICLR 2019, arXiv:1812.00332, section 3.

Weights and architecture parameters are trained alternately. A weight step runs one path, sampled
from ``p = softmax(alpha)``. An architecture step runs one path too; its backward pass computes the
output of every other candidate once without graph, one at a time, so it needs the memory of one
path:

    dL/dalpha_i = sum_j dL/dg_j * p_j * (delta_ij - p_i),   dL/dg_j = <dL/dy, o_j(x)>   (eq. 4)

That is the estimator ``full``. With ``two`` (section 3.2.1) each decision draws two candidates and
runs one of them; the same formula holds with ``q``, the softmax of these two alone, and the step
moves probability only between them (`hwnas.search.proxyless.gates`). It costs one recomputed
candidate.

The candidate outputs ``o_j`` are those of whole blocks including the shortcut; a skip is ``o = x``.
The shortcut adds the same ``<dL/dy, x>`` to every ``dL/dg_j``, which cancels in the formula, so a
skip needs no special case (the released code crashes or stops learning there).
"""

from __future__ import annotations

import math
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
from hwnas.search.log import SearchMetrics
from hwnas.search.objective import expected_ms, objective, padded_costs
from hwnas.search.path_training import PATHS, PathTraining, State, load_adam, save_adam
from hwnas.search.plan import SearchPlan
from hwnas.search.proxyless.gates import apply_gate, draw_pairs, rescale_pairs
from hwnas.search.proxyless.judged import JudgedChoice
from hwnas.search.sampled_paths import (
    Paths,
    check_sampled,
    extract_network,
    path_candidates,
    path_skips,
    sample_path,
    sampled_supernet,
)
from hwnas.search.statistics import mean_entropy
from hwnas.search.strategy import SearchContext, StepResult, StrategyOptions, StrategyTraits
from hwnas.training.compute import CPU, Compute, full_precision
from hwnas.training.distributed import average_gradients, check_alike
from hwnas.training.evaluation import batch_accuracy
from hwnas.training.images.loader import Batch, Data

Estimator = Literal["full", "two"]
Choice = Literal["judged", "most-probable"]


class ChoiceOptions(StrategyOptions, frozen=True, kw_only=True):
    """How strategies ``proxyless`` and ``reinforce`` choose."""

    choice: Choice = "judged"
    """How networks are chosen: evaluated on the supernet, or the most probable one as in the
    paper."""

    @property
    def judges(self) -> bool:
        return self.choice == "judged"


class ProxylessOptions(ChoiceOptions, frozen=True):
    """Options of strategy ``proxyless``."""

    estimator: Estimator = "full"
    """Gradient of the logits: from all candidates of a decision, or from two of them."""


class ProxylessGradient:
    """Trains weights on training data and ``arch_logits [P, K]`` on validation data."""

    traits: ClassVar = StrategyTraits(parallel=True, judges=True)
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
        compute: Compute = CPU,
        choice: Choice = "judged",
        **training: float,
    ) -> None:
        self.weights = PathTraining(supernet, compute, **training)
        self.generator = generator
        """Generator of the paths; the loop seeds it at the start of each epoch."""
        self.objective = objective(objective_name, budget_ms)
        self.estimator, self.choice = estimator, choice
        self.judged: JudgedChoice | None = None
        """Chooses networks; ``None``: the most probable ones are chosen."""
        self.set_costs(costs, budget_ms)
        self.arch_logits = nn.Parameter(1e-3 * torch.randn(self.mask.shape, generator=generator))
        # beta1 = 0: the logit of a candidate that has no gradient must not move
        self.arch_optimizer = torch.optim.Adam(
            [self.arch_logits], arch_learning_rate, betas=(0.0, 0.999)
        )

    @classmethod
    def begin(cls, context: SearchContext) -> Self:
        options = context.options_as(ProxylessOptions)
        search = cls(
            sampled_supernet(context),
            context.table,
            context.budget_ms,
            context.generator,
            context.arch_learning_rate,
            context.objective or "lagrangian",
            options.estimator,
            context.compute,
            options.choice,
        )
        search.weights.accumulate = context.accumulate
        return search

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
        """Nothing to do: every step draws its own path."""

    def weight_step(self, batch: Batch, learning_rate: float) -> StepResult:
        loss, logits = self.weights.path_step(batch, self._sample(), learning_rate)
        return StepResult(loss, batch_accuracy(logits, batch[1]))

    def architecture_step(self, batch: Batch) -> StepResult:
        scaler = self.weights.scaler
        self.supernet.train()
        pairs = draw_pairs(self.probs.detach(), self.generator) if self.estimator == "two" else None
        self.arch_optimizer.zero_grad()
        with self.weights.frozen():
            probs, latency_ms = self._involved(pairs)
            path = self._sample() if pairs is None else self._active(pairs, probs)
            check_alike([path, None if pairs is None else pairs.tolist()], PATHS)
            parts = self.weights.parts(batch)
            results = [self._backward(part, share, path, pairs) for part, share in parts]
        average_gradients([self.arch_logits])
        scaler.unscale_(self.arch_optimizer)
        before = self.arch_logits.detach().clone()
        scaler.step(self.arch_optimizer)
        scaler.update()
        if pairs is not None:
            with torch.no_grad():
                self.arch_logits.copy_(rescale_pairs(before, self.arch_logits, pairs))
        self.objective.update(latency_ms.item())
        losses, logits = zip(*results, strict=True)
        return StepResult(torch.stack(losses).sum(), batch_accuracy(torch.cat(logits), batch[1]))

    def _backward(
        self, part: Batch, share: float, path: list[int], pairs: Tensor | None
    ) -> tuple[Tensor, Tensor]:
        """Add the gradient of a part that is this share of the batch; return its share of the task
        loss, and its logits.

        Every objective is affine in the task loss, so the parts' objectives add up to the batch's.
        """
        images, labels = part
        compute = self.weights.compute
        probs, latency_ms = self._involved(pairs)
        gate = partial(apply_gate, compute.put(probs), pairs)
        with compute.autocast():
            logits = self.supernet(images, path, gate)
        task_loss = F.cross_entropy(full_precision(logits), labels)
        loss = self.objective.loss(task_loss, compute.put(latency_ms))
        self.weights.scaler.scale(loss * share if share < 1 else loss).backward()
        return share * task_loss.detach(), logits.detach()

    def _involved(self, pairs: Tensor | None) -> tuple[Tensor, Tensor]:
        """Return the probabilities of the candidates involved and the expected latency.

        With pairs they are ``q [P, 2]``. The gradient of the latency is then that of the pairs, as
        in the paper, but its value that of all candidates, which is less noisy.
        """
        if pairs is None:
            probs = self.probs
            return probs, expected_ms(probs, self.cost_ms, self.costs.fixed_ms)
        probs = self.arch_logits.gather(1, pairs).softmax(dim=1)
        pairs_ms = (probs * self.cost_ms.gather(1, pairs)).sum()
        all_ms = expected_ms(self.probs.detach(), self.cost_ms, self.costs.fixed_ms)
        return probs, all_ms + pairs_ms - pairs_ms.detach()

    @torch.no_grad()
    def _active(self, pairs: Tensor, probs: Tensor) -> list[int]:
        """Draw the active candidate of each pair ``[P, 2]`` by ``probs``."""
        return pairs.gather(1, torch.multinomial(probs, 1, generator=self.generator))[:, 0].tolist()

    def judge_on(self, valid: Data, plan: SearchPlan, images: int, seed: int) -> None:
        """Evaluate networks on validation images with the present weights, if option ``choice`` is
        ``judged``."""
        queries = plan.queries(images) if self.choice == "judged" else 0
        self.judged = JudgedChoice(self.weights, valid, queries, seed) if queries else None

    def candidates(self, count: int, low_ms: float, high_ms: float, seed: int) -> list[Genotype]:
        if self.judged is None:
            return self._probable(count, low_ms, high_ms, seed)
        probable = self._probable(max(count, self.judged.drawn), low_ms, high_ms, seed)
        return self.judged.best(probable, self.costs, (low_ms, high_ms), count, seed)

    def _probable(self, count: int, low_ms: float, high_ms: float, seed: int) -> list[Genotype]:
        """Return the most probable network of the window, and others drawn from it."""
        scores = [[math.log(max(prob, 1e-12)) for prob in row] for row in self.preferences()[0]]
        rng = np.random.default_rng(seed)
        return path_candidates(
            self.supernet.space, scores, self.costs, (low_ms, high_ms), count, rng
        )

    def network(self, genotype: Genotype) -> Network | CellPath:
        return extract_network(self.supernet, genotype)

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
        return state | save_adam(self.arch_optimizer, self.arch_logits, "adam")

    def load_state_dict(self, state: State) -> None:
        self.weights.load_state_dict(state)
        with torch.no_grad():
            self.arch_logits.copy_(state["arch_logits"])
        self.objective.multiplier = state["multiplier"].item()
        load_adam(self.arch_optimizer, self.arch_logits, "adam", state)

    def _sample(self) -> list[int]:
        return sample_path(self.supernet.space, self.probs.detach(), self.generator)

    @torch.no_grad()
    def metrics(self) -> SearchMetrics:
        probs = self.probs
        skips = path_skips(self.supernet.space, probs.argmax(1).tolist()) or (None, None)
        return SearchMetrics(
            entropy=mean_entropy(probs, self.mask),
            expected_ms=expected_ms(probs, self.cost_ms, self.costs.fixed_ms).item(),
            multiplier=self.objective.multiplier,
            skips=skips[0],
            reduction_skips=skips[1],
        )
