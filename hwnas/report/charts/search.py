"""The chart of a search's course."""

from __future__ import annotations

from collections.abc import Sequence

from hwnas.report.charts.plot import Curve, panels
from hwnas.report.schema import SearchPoint


def search_curves(search: Sequence[SearchPoint]) -> str:
    """Return panels over the steps: latency and budget, multiplier, loss, accuracy, entropy."""
    if len(search) < 2:
        return ""
    latency = [
        Curve("expected latency, ms (predicted)", [p.expected_ms for p in search], "blue"),
        Curve("budget, ms", [p.budget_ms for p in search], "red dashed"),
    ]
    others = [
        Curve("multiplier of the latency term", [p.multiplier for p in search], "orange"),
        Curve("loss", [p.loss for p in search], "grey"),
        Curve("accuracy, %", [_percent(p.accuracy) for p in search], "green"),
        Curve("entropy of the decisions", [p.entropy for p in search], "blue"),
    ]
    return panels(search, [latency, *([curve] for curve in others)])


def _percent(share: float | None) -> float | None:
    return None if share is None else 100 * share
