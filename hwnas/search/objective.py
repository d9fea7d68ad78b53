"""How latency enters the loss of a search."""

from __future__ import annotations

import torch
from torch import Tensor

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


class Lagrangian:
    """``task_loss + multiplier * (expected / budget - 1)`` with dual ascent on the multiplier.

    The multiplier rises while the expected latency is over the budget and falls, also below
    zero, while the budget is not used, so nobody tunes it. The step of the dual variable is
    projected to ``[-limit, limit]`` (Boyd and Vandenberghe, Convex Optimization, section 5.5;
    the signed form holds an equality).
    """

    def __init__(self, budget_ms: float, rate: float = 0.1, limit: float = 2.0) -> None:
        self.budget_ms = budget_ms
        self.rate = rate
        self.limit = limit
        self.multiplier = 0.0

    def loss(self, task_loss: Tensor, latency_ms: Tensor) -> Tensor:
        return task_loss + self.multiplier * (latency_ms / self.budget_ms - 1)

    def update(self, latency_ms: float) -> None:
        """Ascend after an architecture step that started from the expected ``latency_ms``."""
        risen = self.multiplier + self.rate * (latency_ms / self.budget_ms - 1)
        self.multiplier = max(-self.limit, min(self.limit, risen))
