"""A strip plot of one latency: range of calls, interval, prediction and budget, as inline SVG."""

from __future__ import annotations

from collections.abc import Iterator

from hwnas.report.charts.axes import Axis
from hwnas.report.formatting import headline, ms
from hwnas.report.latency import Latency
from hwnas.report.schema import Result

MAX_P99_RATIO = 1.5
"""A p99 beyond this multiple of all other values is drawn as an arrow, not to scale."""


def latency_strip(result: Result) -> str:
    """Return the ``<svg>`` element; empty if there is no latency.

    It shows calls from min to p99 (thin; an arrow if p99 is outside), the 95 % interval (thick),
    the median (dot), the prediction ± two standard deviations (yellow), the budget (vertical line).
    """
    latency = result.latency
    if latency is None:
        return ""
    axis = _axis(latency, result.budget_ms)
    parts = [f'<svg class="strip" height="96" role="img" aria-label="{headline(result)}">']
    if result.budget_ms is not None:
        parts += _budget(result.budget_ms, axis.percent(result.budget_ms))
    if latency.min_ms is not None and latency.p99_ms is not None:
        parts += _calls(axis, latency.min_ms, latency.p99_ms)
    if latency.ci95_ms is not None:
        parts.append(_segment(axis, "ci", latency.ci95_ms, 46, "95 % interval"))
    parts += _prediction(latency, axis)
    at = axis.percent(latency.median_ms)
    parts.append(f'<circle class="median" cx="{at:.2f}%" cy="46" r="5.5"/>')
    return "".join([*parts, _label(at, 32, f"{ms(latency.median_ms)} ms {latency.kind}"), "</svg>"])


def _axis(latency: Latency, budget_ms: float | None) -> Axis:
    """Return an axis on which all marks fit."""
    marks = [latency.median_ms, latency.min_ms, budget_ms]
    known = [mark for mark in (*marks, *(latency.ci95_ms or ())) if mark is not None]
    low_ms, high_ms = _predicted_range(latency)
    low_ms, high_ms = min(low_ms, *known), max(high_ms, *known)
    if latency.p99_ms is not None and latency.p99_ms <= MAX_P99_RATIO * high_ms:
        high_ms = max(high_ms, latency.p99_ms)
    return Axis.around((low_ms, high_ms), margin=0.08)


def _calls(axis: Axis, fastest_ms: float, p99_ms: float) -> list[str]:
    """Draw the range of calls; an arrow to the edge if its end is outside the picture."""
    if p99_ms <= axis.high:
        return [_segment(axis, "calls", (fastest_ms, p99_ms), 46, "fastest call to p99")]
    hint = f"fastest call to p99, {ms(p99_ms)} ms"
    return [
        _segment(axis, "calls", (fastest_ms, axis.high), 46, hint),
        '<svg x="100%" y="46"><path class="calls" fill="none" d="M-6 -5L0 0L-6 5"/></svg>',
        _label(100, 64, f"p99 {ms(p99_ms)} ms"),
    ]


def _predicted_range(latency: Latency) -> tuple[float, float]:
    """Return the prediction (or else the median) ± two standard deviations."""
    centre_ms = latency.median_ms if latency.predicted_ms is None else latency.predicted_ms
    half_ms = 2 * (latency.predicted_std_ms or 0.0)
    return centre_ms - half_ms, centre_ms + half_ms


def _prediction(latency: Latency, axis: Axis) -> Iterator[str]:
    """Draw the prediction below the measured latency; alone, only its standard deviation."""
    alone = latency.kind in ("table", "predicted")
    if not alone and latency.predicted_ms is None:
        return
    y, hint = 46 if alone else 70, "prediction ± two standard deviations"
    yield _segment(axis, "guess", _predicted_range(latency), y, hint)
    if not alone and latency.predicted_ms is not None:
        at = axis.percent(latency.predicted_ms)
        yield f'<svg x="{at:.2f}%" y="70"><path class="rhomb" d="M0 -6l6 6l-6 6l-6 -6z"/></svg>'
        yield _label(at, 91, f"{ms(latency.predicted_ms)} ms predicted")


def _budget(budget_ms: float, at: float) -> list[str]:
    return [
        f'<rect class="over" x="{at:.2f}%" y="18" width="{max(100 - at, 0):.2f}%" height="78"/>',
        f'<line class="budget" x1="{at:.2f}%" x2="{at:.2f}%" y1="18" y2="96"/>',
        _label(at, 12, f"budget {ms(budget_ms)} ms"),
    ]


def _segment(axis: Axis, css: str, ends_ms: tuple[float, float], y: float, title: str) -> str:
    left, right = map(axis.percent, ends_ms)
    return (
        f'<line class="{css}" x1="{left:.2f}%" x2="{right:.2f}%" y1="{y}" y2="{y}">'
        f"<title>{title}</title></line>"
    )


def _label(at: float, y: float, text: str) -> str:
    """Return a text centred at ``at`` percent; near an edge it is aligned to the edge."""
    anchor = ' class="start"' if at < 20 else ' class="end"' if at > 80 else ""
    return f'<text{anchor} x="{at:.2f}%" y="{y}">{text}</text>'
