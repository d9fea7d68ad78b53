"""Budgets are read as they are meant, and refused where no network can keep them."""

from __future__ import annotations

import pytest

from hwnas.errors import BudgetError, UsageError
from hwnas.latency_models.cost import CostTable
from hwnas.specialize.setup.budget import parse_budget, resolve_budget

COSTS = CostTable(mean_ms=((1.0, 4.0, 0.0), (2.0, 5.0)), fixed_ms=1.0)
"""Networks of 3 to 10 ms."""


@pytest.mark.parametrize(
    ("text", "ms"),
    [
        ("80ms", 80),
        ("80 ms", 80),
        (" 0.9ms\n", 0.9),
        ("900us", 0.9),
        ("900\N{MICRO SIGN}s", 0.9),
        ("900\N{GREEK SMALL LETTER MU}s", 0.9),
        ("0.1s", 100),
        ("2 s", 2000),
    ],
)
def test_a_budget_has_a_unit_of_time(text: str, ms: float) -> None:
    value, share = parse_budget(text)
    assert value == pytest.approx(ms) and not share


def test_percent_are_a_share_of_the_largest_network() -> None:
    assert parse_budget("50%") == (0.5, True)
    assert resolve_budget("50 %", COSTS, default_ms=1) == pytest.approx(5)
    assert resolve_budget("100%", COSTS, default_ms=1) == COSTS.largest_ms == 10


@pytest.mark.parametrize(
    "text",
    ["", "80", "ms", "-3ms", "0ms", "0.0%", "fast", "80 m", "1e3ms", "nanms", "infms", "8,5ms",
     "80ms 90ms", "5 %%", "80MS"],
)  # fmt: skip
def test_nonsense_is_a_usage_error_that_shows_the_form(text: str) -> None:
    with pytest.raises(UsageError, match="expected a positive number with its unit") as caught:
        resolve_budget(text, COSTS, default_ms=5)
    assert repr(text) in str(caught.value) and "\n" not in str(caught.value)
    assert caught.value.exit_code == 2


@pytest.mark.parametrize(
    ("text", "side"),
    [("2.9ms", "below the fastest"), ("10%", "below the fastest"), ("10.1ms", "above the largest"),
     ("101%", "above the largest"), ("1s", "above the largest"), ("9" * 400 + "s", "above")],
)  # fmt: skip
def test_a_budget_out_of_reach_names_the_range(text: str, side: str) -> None:
    with pytest.raises(BudgetError, match=f"{side}.*reachable are 3 to 10 ms") as caught:
        resolve_budget(text, COSTS, default_ms=5)
    assert caught.value.exit_code == 5


def test_both_ends_of_the_range_are_reachable() -> None:
    assert resolve_budget("3ms", COSTS, default_ms=5) == 3
    assert resolve_budget("10ms", COSTS, default_ms=5) == 10


def test_without_a_budget_the_default_holds_and_is_checked_too() -> None:
    assert resolve_budget(None, COSTS, default_ms=5) == 5
    with pytest.raises(BudgetError):
        resolve_budget(None, COSTS, default_ms=11)
