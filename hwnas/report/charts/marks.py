"""The marks of a chart as SVG: lines, dots, error bars, regions.

Positions are in percent of the plot, sizes in CSS pixels: a chart fills the width of its page, also
on a phone and on paper, and its text keeps its size. Colours are classes of the page's style sheet.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from html import escape
from typing import NamedTuple

from hwnas.report.charts.axes import Axis

_SYMBOLS = {
    "circle": "M-5 0a5 5 0 1 0 10 0a5 5 0 1 0 -10 0z",
    "square": "M-4.5 -4.5h9v9h-9z",
    "triangle": "M0 -6L5.5 4.5H-5.5z",
    "diamond": "M0 -6.5L6.5 0L0 6.5L-6.5 0z",
    "ring": "M-10 0a10 10 0 1 0 20 0a10 10 0 1 0 -20 0z",
}


class Plane(NamedTuple):
    """The two axes of a plot."""

    x: Axis
    y: Axis

    def left(self, value: float) -> str:
        return f"{self.x.percent(value):.2f}%"

    def top(self, value: float) -> str:
        return f"{100 - self.y.percent(value):.2f}%"


def line(
    plane: Plane, points: Iterable[tuple[float, float | None]], css: str, *, stairs: bool = False
) -> str:
    """Return a line through the points; those without a value interrupt it."""
    parts: list[str] = []
    last: float | None = None
    for x, y in points:
        if y is not None:
            across, down = f"{plane.x.percent(x):.2f}", f"{100 - plane.y.percent(y):.2f}"
            if last is None:
                parts.append(f"M{across} {down}")
            else:
                parts.append(f"H{across}V{down}" if stairs else f"L{across} {down}")
        last = y
    return _stretched(f'<path class="line {css}" d="{"".join(parts)}"/>')


def area(plane: Plane, corners: Sequence[tuple[float, float]], css: str) -> str:
    """Return a filled polygon."""
    places = " ".join(
        f"{plane.x.percent(x):.2f},{100 - plane.y.percent(y):.2f}" for x, y in corners
    )
    return _stretched(f'<polygon class="{css}" points="{places}"/>')


def symbol(plane: Plane, x: float, y: float, name: str, css: str) -> str:
    """Return a symbol, ``open`` among the classes if it is not filled."""
    return (
        f'<svg x="{plane.left(x)}" y="{plane.top(y)}" class="symbol">'
        f'<path class="{css}" d="{_SYMBOLS[name]}"/></svg>'
    )


def across(plane: Plane, ends: tuple[float, float], y: float, css: str = "error") -> str:
    """Return a horizontal line, such as an error bar."""
    top = plane.top(y)
    left, right = map(plane.left, ends)
    return f'<line class="{css}" x1="{left}" x2="{right}" y1="{top}" y2="{top}"/>'


def upright(plane: Plane, x: float, ends: tuple[float, float], css: str = "error") -> str:
    """Return a vertical line."""
    left = plane.left(x)
    first, last = map(plane.top, ends)
    return f'<line class="{css}" x1="{left}" x2="{left}" y1="{first}" y2="{last}"/>'


def hint(text: str, marks: Iterable[str]) -> str:
    """Return marks that show ``text`` while the pointer is on them."""
    return f"<g><title>{escape(text)}</title>{''.join(marks)}</g>"


def region(plane: Plane, ends: tuple[float, float], css: str, text: str = "") -> str:
    """Return a rectangle over the whole height; ``text`` is shown under the pointer."""
    low, high = plane.x.percent(ends[0]), plane.x.percent(ends[1])
    title = f"<title>{escape(text)}</title>" if text else ""
    return (
        f'<rect class="{css}" x="{low:.2f}%" width="{max(high - low, 0.0):.2f}%" height="100%">'
        f"{title}</rect>"
    )


def budget(plane: Plane, budget_ms: float) -> list[str]:
    """Return a line at the budget, and a shade over the latencies above it."""
    at = plane.x.percent(budget_ms)
    anchor, shift = ("end", -4) if at > 80 else ("start", 4)
    return [
        region(plane, (budget_ms, plane.x.high), "over"),
        f'<line class="budget" x1="{at:.2f}%" x2="{at:.2f}%" y1="0" y2="100%"/>',
        f'<text class="{anchor}" x="{at:.2f}%" y="100%" dx="{shift}" dy="-6">budget</text>',
    ]


def key(name: str, css: str, text: str) -> str:
    """Return an entry of the legend: a symbol, or ``line``, and what it means."""
    drawn = (
        f'<path class="line {css}" d="M0 7H24"/>'
        if name == "line"
        else f'<svg x="12" y="7" class="symbol"><path class="{css}" d="{_SYMBOLS[name]}"/></svg>'
    )
    return f'<span><svg class="key" width="24" height="14">{drawn}</svg>{escape(text)}</span>'


def _stretched(shape: str) -> str:
    """Return a shape whose coordinates from 0 to 100 are stretched over the plot."""
    return f'<svg viewBox="0 0 100 100" preserveAspectRatio="none">{shape}</svg>'
