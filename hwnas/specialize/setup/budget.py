"""Latency budgets in milliseconds, and the latencies that a space can reach."""

from __future__ import annotations

from random import Random

import numpy as np

from hwnas.errors import BudgetError
from hwnas.latency_models.cost import Costs, NetworkCosts
from hwnas.spaces.space import SearchSpace
from hwnas.specialize.spec import Budget, Share

RANDOM_NETWORKS, RANDOM_GROWN_NETWORKS = 1001, 101
"""Networks from which the median of a space is computed; fewer if each has blocks of its own."""


def resolve_budget(budget: Budget | None, costs: Costs, default_ms: float) -> float:
    """Return the budget in ms. Raises `BudgetError` with the range if no network can keep it.

    A budget above the largest network's latency is an error too: every network keeps it, so there
    is nothing to search.
    """
    budget_ms = default_ms if budget is None else budget.value
    if isinstance(budget, Share):
        budget_ms = budget.value * costs.largest_ms
    if not costs.smallest_ms <= budget_ms <= costs.largest_ms:
        side = "below the fastest" if budget_ms < costs.smallest_ms else "above the largest"
        raise BudgetError(
            f"a budget of {budget_ms:.4g} ms is {side} network of the space; reachable are "
            f"{costs.smallest_ms:.4g} to {costs.largest_ms:.4g} ms"
        )
    return budget_ms


def latency_range(space: SearchSpace, costs: Costs) -> tuple[float, float, float]:
    """Return the least, median and greatest predicted latency; the median of random networks."""
    rng = Random(0)
    count = RANDOM_GROWN_NETWORKS if isinstance(costs, NetworkCosts) else RANDOM_NETWORKS
    choices = np.array([space.random(rng).choices for _ in range(count)])
    return costs.smallest_ms, float(np.median(costs.networks_ms(choices))), costs.largest_ms
