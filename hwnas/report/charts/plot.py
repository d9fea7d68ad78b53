"""Plots with axes and legend, and panels over common steps."""

from __future__ import annotations

from collections.abc import Sequence
from html import escape
from itertools import pairwise
from math import isfinite
from typing import NamedTuple

from hwnas.report.charts.axes import Axis
from hwnas.report.charts.marks import Plane, key, line, region, symbol
from hwnas.report.schema import SearchPoint

PANEL_PX = 96
"""Height of a panel."""

MAX_READINGS = 100
"""Most steps of a panel whose values are shown under the pointer."""


class Curve(NamedTuple):
    """A quantity over the steps of a search; ``None`` where it was not computed."""

    name: str
    values: Sequence[float | None]
    css: str
    stairs: bool = False
    dots: bool = False
    """Whether the quantity was computed at some steps only, which are marked."""


def plot(
    plane: Plane,
    marks: Sequence[str],
    *,
    x_title: str,
    y_title: str,
    height_px: int,
    legend: Sequence[str] = (),
    gutter_px: int = 0,
) -> str:
    """Return a plot: the title of the vertical axis above it, that of the other below.

    ``gutter_px``: width for the labels of the vertical axis; by default as much as they need.
    """
    rows, columns = plane.y.ticks(max(3, height_px // 60)), plane.x.ticks() if x_title else []
    grid = [
        f'<line class="grid" x1="0" x2="100%" y1="{plane.top(value)}" y2="{plane.top(value)}"/>'
        f'<text class="end" x="0" y="{plane.top(value)}" dx="-8" dy="4">{text}</text>'
        for value, text in rows
    ]
    grid += [
        f'<line class="grid" x1="{plane.left(value)}" x2="{plane.left(value)}" y1="0" y2="100%"/>'
        f'<text x="{plane.left(value)}" y="100%" dy="18">{text}</text>'
        for value, text in columns
    ]
    if x_title:
        grid.append(f'<text x="50%" y="100%" dy="38">{escape(x_title)}</text>')
    keys = f'<div class="keys">{"".join(legend)}</div>' if legend else ""
    return (
        f'{keys}<div class="plot{" labelled" if x_title else ""}" '
        f'style="padding-left: {gutter_px or gutter(plane.y, height_px)}px">'
        f'<div class="caption">{escape(y_title)}</div><svg class="marks" height="{height_px}" '
        f'role="img" aria-label="{escape(y_title)}">{"".join([*grid, *marks])}</svg></div>'
    )


def gutter(axis: Axis, height_px: int) -> int:
    """Return the width in pixels that the labels of a vertical axis need."""
    return 14 + 7 * max((len(text) for _, text in axis.ticks(max(3, height_px // 60))), default=0)


def panels(search: Sequence[SearchPoint], groups: Sequence[Sequence[Curve]]) -> str:
    """Return a panel for each group of curves over the steps; those without values are left out.

    Steps that start again are numbered in sequence. A shade marks the warm-up.
    """
    steps = [point.step for point in search]
    if any(after <= before for before, after in pairwise(steps)):
        steps = list(range(len(search)))
    finite = [[_finite(curve) for curve in group] for group in groups]
    shown = [
        [curve for curve in group if any(v is not None for v in curve.values)] for group in finite
    ]
    shown = [group for group in shown if group]
    if not shown:
        return ""
    across = Axis(steps[0], steps[-1])
    axes = [Axis.around([v for c in group for v in c.values], zero=True) for group in shown]
    gutter_px = max(gutter(axis, PANEL_PX) for axis in axes)
    warm_up = [step for step, point in zip(steps, search, strict=True) if point.phase == "warm-up"]
    drawn: list[str] = []
    for group, axis in zip(shown, axes, strict=True):
        plane = Plane(across, axis)
        marks = [region(plane, (warm_up[0], warm_up[-1]), "shade")] if warm_up else []
        marks += [mark for curve in group for mark in _curve(plane, steps, curve)]
        marks += _readings(plane, steps, group)
        legend = [key("line", curve.css, curve.name) for curve in group]
        last = group is shown[-1]
        drawn.append(
            plot(
                plane,
                marks,
                x_title="step" if last else "",
                y_title="" if len(group) > 1 else group[0].name,
                legend=legend if len(group) > 1 else (),
                height_px=PANEL_PX,
                gutter_px=gutter_px,
            )
        )
    if warm_up:
        drawn.append('<p class="small-text muted">Shaded: warm-up, which trains weights only.</p>')
    return "".join(drawn)


def _finite(curve: Curve) -> Curve:
    """Return the curve without the values of a search that diverged."""
    values = [None if v is None or not isfinite(v) else v for v in curve.values]
    return curve._replace(values=values)


def _curve(plane: Plane, steps: Sequence[int], curve: Curve) -> list[str]:
    points = list(zip(steps, curve.values, strict=True))
    known = [(step, value) for step, value in points if value is not None]
    if not curve.dots and len(known) > 1:
        return [line(plane, points, curve.css, stairs=curve.stairs)]
    dots = [symbol(plane, step, value, "circle", f"small {curve.css}") for step, value in known]
    return [line(plane, known, curve.css), *dots]


def _readings(plane: Plane, steps: Sequence[int], group: Sequence[Curve]) -> list[str]:
    """Return columns that show the values of a step under the pointer."""
    numbers = range(0, len(steps), -(-len(steps) // MAX_READINGS))
    edges = [(steps[a] + steps[b]) / 2 for a, b in pairwise(numbers)]
    edges = [steps[0], *edges, steps[-1]]
    columns: list[str] = []
    for number, ends in zip(numbers, pairwise(edges), strict=True):
        known = [(curve.name, curve.values[number]) for curve in group]
        values = [f"{name}: {value:.4g}" for name, value in known if value is not None]
        if values:
            text = "\n".join([f"step {steps[number]}", *values])
            columns.append(region(plane, ends, "reading", text))
    return columns
