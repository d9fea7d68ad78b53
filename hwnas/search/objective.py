"""Latency in the objective of a search: expected latency, and losses and rewards that include it.

A gradient search descends `Objective.loss`; a search that samples networks ascends
`Objective.reward`. ``add#linear`` and ``mul#log`` are those of the ProxylessNAS code, and the
reward ``accuracy * (budget / latency) ** w`` is that of its REINFORCE form (Cai, Zhu and Han, ICLR
2019, arXiv:1812.00332, section 3.3; first in MnasNet, Tan et al., CVPR 2019, arXiv:1807.11626).
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Protocol

import torch
from torch import Tensor

from hwnas.errors import UnknownName
from hwnas.latency_models.cost import CostTable


def expected_ms(probs: Tensor, cost_ms: Tensor, fixed_ms: float) -> Tensor:
    """Return the expected latency of the sampled network, differentiable in ``probs``.

    ``E[latency] = fixed + sum_p sum_k probs[p, k] * cost_ms[p, k]``; both ``[P, K]``.
    """
    return fixed_ms + (probs * cost_ms).sum()


def padded_costs(table: CostTable) -> tuple[Tensor, Tensor]:
    """Return costs ``[P, K]`` in ms, padded with zeros, and the mask of real candidates."""
    width = max(map(len, table.mean_ms))
    cost_ms = torch.zeros(len(table.mean_ms), width)
    mask = torch.zeros(len(table.mean_ms), width, dtype=torch.bool)
    for place, row in enumerate(table.mean_ms):
        cost_ms[place, : len(row)] = torch.tensor(row)
        mask[place, : len(row)] = True
    return cost_ms, mask


class Objective(Protocol):
    """The objective of a search under a budget."""

    budget_ms: float
    """The budget; it may change during a search."""
    multiplier: float
    """Current weight of the latency."""

    def loss(self, task_loss: Tensor, latency_ms: Tensor) -> Tensor:
        """Return the loss to descend, differentiable in both arguments."""
        ...

    def reward(self, accuracy: float, latency_ms: float) -> float:
        """Return the reward to ascend for one network.

        ``accuracy`` is in 0..1, and so must be any other score.
        """
        ...

    def update(self, latency_ms: float) -> None:
        """Adapt to the expected latency before an architecture step."""
        ...


def objective(name: str, budget_ms: float) -> Objective:
    """Return the objective of that name with its defaults. Raises `UnknownName`."""
    if name not in OBJECTIVES:
        raise UnknownName("objective", name, OBJECTIVES)
    return OBJECTIVES[name](budget_ms)


class Linear:
    """``add#linear``: ``task_loss + multiplier * (latency / budget - 1)``.

    It also rewards networks faster than the budget; no fixed multiplier ends at the budget.
    """

    def __init__(self, budget_ms: float, multiplier: float = 0.1) -> None:
        self.budget_ms = budget_ms
        self.multiplier = multiplier

    def loss(self, task_loss: Tensor, latency_ms: Tensor) -> Tensor:
        return task_loss + self.multiplier * (latency_ms / self.budget_ms - 1)

    def reward(self, accuracy: float, latency_ms: float) -> float:
        return accuracy - self.multiplier * (latency_ms / self.budget_ms - 1)

    def update(self, latency_ms: float) -> None:
        """The multiplier is fixed."""


class Hinge(Linear):
    """``hinge``: `Linear` over the budget, zero below it."""

    def __init__(self, budget_ms: float, multiplier: float = 1.0) -> None:
        super().__init__(budget_ms, multiplier)

    def loss(self, task_loss: Tensor, latency_ms: Tensor) -> Tensor:
        return task_loss + self.multiplier * (latency_ms / self.budget_ms - 1).clamp_min(0)

    def reward(self, accuracy: float, latency_ms: float) -> float:
        return accuracy - self.multiplier * max(0.0, latency_ms / self.budget_ms - 1)


class Log:
    """``mul#log``: ``scale * task_loss * (ln latency / ln budget) ** multiplier``.

    Below e ms the logarithm continues as its tangent (`positive_log`): the term stays positive and
    differentiable for networks faster than a millisecond. As a reward it is
    ``accuracy * (budget / latency) ** reward_exponent``.
    """

    def __init__(
        self,
        budget_ms: float,
        multiplier: float = 0.3,
        scale: float = 0.2,
        reward_exponent: float = 0.1,
    ) -> None:
        self.budget_ms = budget_ms
        self.multiplier = multiplier
        self.scale = scale
        self.reward_exponent = reward_exponent

    def loss(self, task_loss: Tensor, latency_ms: Tensor) -> Tensor:
        budget = positive_log(torch.as_tensor(self.budget_ms, dtype=latency_ms.dtype))
        ratio = positive_log(latency_ms) / budget
        return self.scale * task_loss * ratio**self.multiplier

    def reward(self, accuracy: float, latency_ms: float) -> float:
        return accuracy * (self.budget_ms / latency_ms) ** self.reward_exponent

    def update(self, latency_ms: float) -> None:
        """The exponent is fixed."""


def positive_log(x: Tensor) -> Tensor:
    """Return ``ln x`` for ``x >= e``, and below its tangent at e, ``x / e``: never negative."""
    return torch.where(x > math.e, x.clamp_min(math.e).log(), x / math.e)


class Lagrangian(Linear):
    """``lagrangian``: `Linear` with dual ascent on the multiplier.

    The multiplier rises while the expected latency is over the budget and falls, also below
    zero, while the budget is not used, so it needs no tuning. The step of the dual variable is
    projected to ``[-limit, limit]`` (Boyd and Vandenberghe, Convex Optimization, section 5.5;
    the signed form holds an equality). Dual ascent alone oscillates around the budget; the gradient
    of the augmented Lagrangian (Nocedal and Wright, Numerical Optimization, section 17.3) damps it:
    the weight of the latency is ``multiplier + damping * (latency / budget - 1)``, within the same
    limits, so that a distant budget doesn't fill Adam's second moments.

    With these rates the multiplier reaches in about 30 steps the value that a task which prefers
    slow candidates needs. With a rate of 0.1 and a damping of 3, 100 steps ended 13 % above a
    budget of 70 % of the slowest network.
    """

    def __init__(
        self, budget_ms: float, rate: float = 0.3, limit: float = 2.0, damping: float = 10.0
    ) -> None:
        super().__init__(budget_ms, 0.0)
        self.rate = rate
        self.limit = limit
        self.damping = damping

    def loss(self, task_loss: Tensor, latency_ms: Tensor) -> Tensor:
        over = latency_ms / self.budget_ms - 1
        weight = self.multiplier + self.damping * over.detach()
        return task_loss + weight.clamp(-self.limit, self.limit) * over

    def update(self, latency_ms: float) -> None:
        """Ascend, for the expected latency before an architecture step."""
        multiplier = self.multiplier + self.rate * (latency_ms / self.budget_ms - 1)
        self.multiplier = max(-self.limit, min(self.limit, multiplier))


SOFT = ("add#linear", "mul#log")
"""Objectives that trade latency against the loss and hold no budget."""

OBJECTIVES: dict[str, Callable[[float], Objective]] = {
    "lagrangian": Lagrangian,
    "add#linear": Linear,
    "mul#log": Log,
    "hinge": Hinge,
}
"""Objectives by name, made from a budget in ms; the first is the default."""
