"""A strip plot of one latency: range of calls, interval, prediction and budget, as inline SVG."""

from __future__ import annotations

from collections.abc import Callable, Iterator

from hwnas.report.formatting import headline, ms
from hwnas.report.latency import Latency
from hwnas.report.schema import Result

_LEFT, _RIGHT = 12.0, 588.0
MAX_P99_RATIO = 1.5
"""A p99 of more than this multiple of all else is drawn as an arrow, not to scale."""


def latency_strip(result: Result) -> str:
    """Return the ``<svg>`` element; empty if there is no latency.

    It shows calls from min to p99 (thin; an arrow if p99 is outside), the 95 % interval (thick),
    the median (dot), the prediction ± two standard deviations (yellow), the budget (vertical line).
    """
    latency = result.latency
    if latency is None:
        return ""
    x = _scale(latency, result.budget_ms)
    parts = [f'<svg class="strip" viewBox="0 0 600 96" role="img" aria-label="{headline(result)}">']
    if result.budget_ms is not None:
        parts += _budget(result.budget_ms, x(result.budget_ms))
    if latency.min_ms is not None and latency.p99_ms is not None:
        parts += _calls(x(latency.min_ms), x(latency.p99_ms), latency.p99_ms)
    if latency.ci95_ms is not None:
        parts.append(
            _segment("ci", (x(latency.ci95_ms[0]), x(latency.ci95_ms[1])), 46, "95 % interval")
        )
    parts += _prediction(latency, x)
    parts.append(f'<circle class="median" cx="{x(latency.median_ms):.1f}" cy="46" r="5.5"/>')
    median = f"{ms(latency.median_ms)} ms {latency.kind}"
    return "".join([*parts, _label(x(latency.median_ms), 32, median), "</svg>"])


def _scale(latency: Latency, budget_ms: float | None) -> Callable[[float], float]:
    """Return the map from milliseconds to x such that all marks fit."""
    marks = [latency.median_ms, latency.min_ms, budget_ms]
    known = [mark for mark in (*marks, *(latency.ci95_ms or ())) if mark is not None]
    low_ms, high_ms = _predicted_range(latency)
    low_ms, high_ms = min(low_ms, *known), max(high_ms, *known)
    if latency.p99_ms is not None and latency.p99_ms <= MAX_P99_RATIO * high_ms:
        high_ms = max(high_ms, latency.p99_ms)
    margin_ms = 0.08 * (high_ms - low_ms) or 0.05 * high_ms
    low_ms, high_ms = low_ms - margin_ms, high_ms + margin_ms
    return lambda value_ms: _LEFT + (_RIGHT - _LEFT) * (value_ms - low_ms) / (high_ms - low_ms)


def _calls(fastest: float, p99: float, p99_ms: float) -> list[str]:
    """Draw the range of calls; an arrow to the edge if its end is outside the picture."""
    if p99 <= _RIGHT:
        return [_segment("calls", (fastest, p99), 46, "fastest call to p99")]
    tip = f"M{_RIGHT - 6:.1f} 41L{_RIGHT:.1f} 46L{_RIGHT - 6:.1f} 51"
    return [
        _segment("calls", (fastest, _RIGHT), 46, f"fastest call to p99, {ms(p99_ms)} ms"),
        f'<path class="calls" fill="none" d="{tip}"/>',
        _label(_RIGHT, 64, f"p99 {ms(p99_ms)} ms"),
    ]


def _predicted_range(latency: Latency) -> tuple[float, float]:
    """Return the prediction (or else the median) ± two standard deviations."""
    centre_ms = latency.median_ms if latency.predicted_ms is None else latency.predicted_ms
    half_ms = 2 * (latency.predicted_std_ms or 0.0)
    return centre_ms - half_ms, centre_ms + half_ms


def _prediction(latency: Latency, x: Callable[[float], float]) -> Iterator[str]:
    """Draw the prediction below the measured latency; alone, only its standard deviation."""
    alone = latency.kind in ("table", "predicted")
    if not alone and latency.predicted_ms is None:
        return
    low_ms, high_ms = _predicted_range(latency)
    ends = x(low_ms), x(high_ms)
    yield _segment("guess", ends, 46 if alone else 70, "prediction ± two standard deviations")
    if not alone and latency.predicted_ms is not None:
        at = x(latency.predicted_ms)
        yield f'<path class="rhomb" d="M{at:.1f} 64l6 6-6 6-6-6z"/>'
        yield _label(at, 91, f"{ms(latency.predicted_ms)} ms predicted")


def _budget(budget_ms: float, at: float) -> list[str]:
    return [
        f'<rect class="over" x="{at:.1f}" y="18" width="{max(600 - at, 0):.1f}" height="78"/>',
        f'<path class="budget" d="M{at:.1f} 18V96"/>',
        _label(at, 12, f"budget {ms(budget_ms)} ms"),
    ]


def _segment(css: str, ends: tuple[float, float], y: float, title: str) -> str:
    left, right = ends
    return f'<path class="{css}" d="M{left:.1f} {y}H{right:.1f}"><title>{title}</title></path>'


def _label(x: float, y: float, text: str) -> str:
    """Return a text centred at ``x``, moved inwards if it would leave the picture."""
    half = 4.8 * len(text)
    return f'<text x="{min(max(x, half), 600 - half):.1f}" y="{y}">{text}</text>'
