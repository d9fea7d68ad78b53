"""Latency budgets as users write them."""

from __future__ import annotations

import re

from hwnas.errors import BudgetError, UsageError
from hwnas.latency_models.cost import Costs

UNITS_MS = {"us": 1e-3, "µs": 1e-3, "ms": 1.0, "s": 1e3}
FORM = re.compile(r"(\d+(?:\.\d+)?)\s*(us|µs|ms|s|%)")


def parse_budget(text: str) -> tuple[float, bool]:
    """Return milliseconds, or a share of the largest network's latency and ``True``."""
    found = FORM.fullmatch(text.strip().replace("\N{GREEK SMALL LETTER MU}", "µ"))
    if found is None or float(found[1]) <= 0:
        raise UsageError(
            f"--budget {text!r}: expected a positive number with its unit, like 80ms, 900us, 0.1s, "
            "or a share of the space's largest network like 50%"
        )
    if found[2] == "%":
        return float(found[1]) / 100, True
    return float(found[1]) * UNITS_MS[found[2]], False


def resolve_budget(text: str | None, costs: Costs, default_ms: float) -> float:
    """Return the budget in ms. Raises `BudgetError` with the range if no network can keep it.

    A budget over the largest network's latency is kept by every network: it is an error too,
    since nothing is left to search.
    """
    value, share = parse_budget(text) if text is not None else (default_ms, False)
    budget_ms = value * costs.largest_ms if share else value
    if not costs.smallest_ms <= budget_ms <= costs.largest_ms:
        side = "below the fastest" if budget_ms < costs.smallest_ms else "above the largest"
        raise BudgetError(
            f"a budget of {budget_ms:.4g} ms is {side} network of the space; reachable are "
            f"{costs.smallest_ms:.4g} to {costs.largest_ms:.4g} ms"
        )
    return budget_ms
