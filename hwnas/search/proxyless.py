"""ProxylessNAS, gradient form: Cai, Zhu and Han, ICLR 2019, arXiv:1812.00332, section 3.

Weights and architecture parameters are trained in turn. A weight step runs one path, sampled from
``p = softmax(alpha)``. An architecture step runs one path as well and, going back, computes every
other candidate's output once without graph (one at a time), so memory is that of one path:

    dL/dalpha_i = sum_j dL/dg_j * p_j * (delta_ij - p_i),   dL/dg_j = <dL/dy, o_j(x)>   (eq. 4)

The candidate outputs ``o_j`` are those of whole blocks, shortcut included; a skip is ``o = x``.
The shortcut adds the same ``<dL/dy, x>`` to every ``dL/dg_j``, which the formula cancels, so the
skip needs no special case (the released code crashes or stops learning there).
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from typing import Self

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from hwnas.architecture import Genotype
from hwnas.latency_models.cost import CostTable
from hwnas.nn.build import Network
from hwnas.nn.supernet import MixedOp, Supernet
from hwnas.search.derive import window_samples
from hwnas.search.objective import Lagrangian, expected_ms, padded_costs
from hwnas.search.strategy import Batch, Setting, StepLog
from hwnas.search.weights import PathTraining, State, below, chain_supernet


class ProxylessGradient:
    """Trains a supernet's weights on training data and its ``arch_logits [P, K]`` on validation."""

    def __init__(
        self,
        supernet: Supernet,
        costs: CostTable,
        budget_ms: float,
        generator: torch.Generator,
        arch_learning_rate: float = 1e-3,
        **training: float,
    ) -> None:
        self.weights = PathTraining(supernet, **training)
        self.generator = generator
        """Draws the paths; the loop seeds it anew each epoch."""
        self.set_costs(costs, budget_ms)
        self.arch_logits = nn.Parameter(1e-3 * torch.randn(self.mask.shape, generator=generator))
        # beta1 = 0: the logit of a candidate that has no gradient must not move
        self.arch_optimizer = torch.optim.Adam(
            [self.arch_logits], arch_learning_rate, betas=(0.0, 0.999)
        )

    @classmethod
    def begin(cls, setting: Setting) -> Self:
        supernet, budget_ms = chain_supernet(setting), setting.budget_ms
        return cls(
            supernet, setting.costs, budget_ms, setting.generator, setting.arch_learning_rate
        )

    def set_costs(self, costs: CostTable, budget_ms: float) -> None:
        multiplier = self.objective.multiplier if hasattr(self, "objective") else 0.0
        self.costs = costs
        self.cost_ms, self.mask = padded_costs(costs)
        self.objective = Lagrangian(budget_ms)
        self.objective.multiplier = multiplier

    @property
    def probs(self) -> Tensor:
        """Probability of each candidate, ``[P, K]``; zero where a decision has fewer."""
        return self.arch_logits.masked_fill(~self.mask, -torch.inf).softmax(dim=1)

    @property
    def supernet(self) -> Supernet:
        return self.weights.supernet

    def weight_step(self, batch: Batch, learning_rate: float) -> StepLog:
        loss, logits = self.weights.step(batch, self._sample(), learning_rate)
        return self._log(loss, logits, batch[1])

    def architecture_step(self, batch: Batch) -> StepLog:
        images, labels = batch
        self.supernet.train()
        with frozen(self.supernet):
            probs = self.probs
            logits = self.supernet(images, self._sample(), partial(_mix, probs))
            task_loss = F.cross_entropy(logits, labels)
            latency_ms = expected_ms(probs, self.cost_ms, self.costs.fixed_ms)
            loss = self.objective.loss(task_loss, latency_ms)
            self.arch_optimizer.zero_grad()
            loss.backward()
        self.arch_optimizer.step()
        self.objective.update(latency_ms.item())
        return self._log(task_loss, logits, labels)

    def candidates(self, count: int, low_ms: float, high_ms: float, seed: int) -> list[Genotype]:
        scores = [[math.log(max(prob, 1e-12)) for prob in row] for row in self.preferences()[0]]
        rng = np.random.default_rng(seed)
        samples = window_samples(scores, self.costs, low_ms, high_ms, count, rng)
        return [Genotype(self.supernet.space.name, choices) for choices in samples]

    def network(self, genotype: Genotype) -> Network:
        return self.supernet.extract(genotype)

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

    @torch.no_grad()
    def _sample(self) -> list[int]:
        return torch.multinomial(self.probs, 1, generator=self.generator)[:, 0].tolist()

    @torch.no_grad()
    def _log(self, loss: Tensor, logits: Tensor, labels: Tensor) -> StepLog:
        probs = self.probs
        return StepLog(
            loss=loss.item(),
            accuracy=(logits.argmax(1) == labels).float().mean().item(),
            entropy=mean_entropy(probs, self.mask),
            expected_ms=expected_ms(probs, self.cost_ms, self.costs.fixed_ms).item(),
            multiplier=self.objective.multiplier,
        )


class RecomputedGates(torch.autograd.Function):
    """Passes the active candidate's output through and gives ``probs [K]`` their gradient.

    Going back, ``dL/dg_j`` is computed for every candidate from its output, recomputed without
    graph. The straight-through estimator hands it to ``probs``; the softmax does the rest.
    """

    @staticmethod
    def forward(ctx, probs: Tensor, y: Tensor, x: Tensor, op: MixedOp, active: int) -> Tensor:  # type: ignore[override]
        ctx.op, ctx.active = op, active
        ctx.save_for_backward(x, y)
        ctx.width = len(probs)
        return y.view_as(y)

    @staticmethod
    def backward(ctx, grad_y: Tensor):  # type: ignore[override]
        x, y = ctx.saved_tensors
        grad_gates = grad_y.new_zeros(ctx.width)
        with torch.no_grad():
            for candidate in range(len(ctx.op)):
                output = y if candidate == ctx.active else ctx.op(x, candidate)
                grad_gates[candidate] = (grad_y * output).sum()
        return grad_gates, grad_y, None, None, None


def _mix(probs: Tensor, place: int, op: MixedOp, x: Tensor, active: int) -> Tensor:
    result: Tensor = RecomputedGates.apply(probs[place], op(x, active), x.detach(), op, active)  # type: ignore[assignment]
    return result


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
