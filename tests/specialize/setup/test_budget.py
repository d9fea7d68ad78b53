"""Budgets in milliseconds, and refused where no network can keep them."""

from __future__ import annotations

import pytest

from hwnas.errors import BudgetError
from hwnas.latency_models.cost import CostTable
from hwnas.specialize.setup.budget import resolve_budget
from hwnas.specialize.spec import Budget, Milliseconds, Share

COSTS = CostTable(mean_ms=((1.0, 4.0, 0.0), (2.0, 5.0)), fixed_ms=1.0)
"""Networks of 3 to 10 ms."""


def test_a_share_is_one_of_the_largest_network() -> None:
    assert resolve_budget(Share(0.5), COSTS, default_ms=1) == pytest.approx(5)
    assert resolve_budget(Share(1.0), COSTS, default_ms=1) == COSTS.largest_ms == 10


@pytest.mark.parametrize(
    ("budget", "side"),
    [
        (Milliseconds(2.9), "below the fastest"),
        (Share(0.1), "below the fastest"),
        (Milliseconds(10.1), "above the largest"),
        (Share(1.01), "above the largest"),
        (Milliseconds(float("inf")), "above the largest"),
    ],
)
def test_a_budget_out_of_reach_names_the_range(budget: Budget, side: str) -> None:
    with pytest.raises(BudgetError, match=f"{side}.*reachable are 3 to 10 ms") as caught:
        resolve_budget(budget, COSTS, default_ms=5)
    assert caught.value.exit_code == 5


def test_both_ends_of_the_range_are_reachable() -> None:
    assert resolve_budget(Milliseconds(3.0), COSTS, default_ms=5) == 3
    assert resolve_budget(Milliseconds(10.0), COSTS, default_ms=5) == 10


def test_without_a_budget_the_default_holds_and_is_checked_too() -> None:
    assert resolve_budget(None, COSTS, default_ms=5) == 5
    with pytest.raises(BudgetError):
        resolve_budget(None, COSTS, default_ms=11)
