"""The charts of one result.

The colours are readable on white and on black; text and grid take theirs from the page's style
sheet, so that a change of the colour scheme needs no script.
"""

from __future__ import annotations

from collections.abc import Sequence

from hwnas.measurement.statistics import wilson_interval
from hwnas.report import formatting
from hwnas.report.candidate_rows import (
    CandidateRow,
    Origin,
)
from hwnas.report.charts.axes import Axis
from hwnas.report.charts.collapse import collapse_chart
from hwnas.report.charts.decisions import decision_chart
from hwnas.report.charts.marks import (
    Plane,
    across,
    area,
    budget,
    hint,
    key,
    line,
    symbol,
    upright,
)
from hwnas.report.charts.plot import plot
from hwnas.report.charts.search import search_curves
from hwnas.report.schema import (
    Result,
    SearchPoint,
)

_STYLE: dict[Origin, tuple[str, str, str]] = {
    "search": ("search", "blue", "circle"),
    "uniform": ("uniform baseline", "orange", "square"),
    "published": ("published cells", "orange", "square"),
    "resolution": ("whole network, smaller images", "orange", "square"),
    "sibling": ("other trained network", "green", "triangle"),
    "random": ("random", "grey", "diamond"),
}


def result_charts(
    result: Result, search: Sequence[SearchPoint], valid_images: int
) -> dict[str, str]:
    """Return the charts of one result as HTML by name, without those that have no data."""
    charts = {
        "accuracy": accuracy_against_latency(result, valid_images),
        "prediction": predicted_against_measured(result),
        "search": search_curves(search),
        "collapse": collapse_chart(search),
        "decisions": decision_chart(result.architecture.blocks),
    }
    return {name: chart for name, chart in charts.items() if chart}


def accuracy_against_latency(result: Result, valid_images: int) -> str:
    """Plot validation accuracy, or agreement, over latency of the trained candidates, with 95 %
    intervals."""
    rows = [row for row in result.candidates if row.validation_score is not None]
    rows = [row for row in rows if row.latency_ms is not None]
    if len(rows) < 2:
        return ""
    latencies_ms = [end for row in rows for end in _latency_interval(row)]
    scores = [end for row in rows for end in _score_interval(row, valid_images)]
    plane = Plane(Axis.around([*latencies_ms, result.budget_ms]), Axis.around(scores))
    marks = budget(plane, result.budget_ms) if result.budget_ms is not None else []
    marks += [_candidate(plane, row, valid_images) for row in rows]
    legend = [
        key(name, css, text)
        for origin, (text, css, name) in _STYLE.items()
        if any(row.origin == origin for row in rows)
    ]
    if any(row.chosen for row in rows):
        legend.append(key("ring", "ring", "chosen"))
    return plot(
        plane,
        marks,
        x_title=f"latency, ms ({_kinds(rows)})",
        y_title=f"validation {result.score_name}, %",
        height_px=340,
        legend=legend,
    )


def predicted_against_measured(result: Result) -> str:
    """Plot predicted over measured latency, with the diagonal and a band of ±10 %."""
    rows = [row for row in result.candidates if row.measured_ms and row.predicted_ms]
    if len(rows) < 2:
        return ""
    both_ms = [ms for row in rows for ms in (row.measured_ms or 0.0, row.predicted_ms or 0.0)]
    low_ms, high_ms = 0.88 * min(both_ms), 1.12 * max(both_ms)
    axis = Axis(low_ms, high_ms)
    plane = Plane(axis, axis)
    corners = [(low_ms, low_ms), (low_ms, 1.1 * low_ms), (high_ms / 1.1, high_ms)]
    corners += [(high_ms, high_ms), (high_ms, 0.9 * high_ms), (low_ms / 0.9, low_ms)]
    marks = [
        area(plane, corners, "band"),
        line(plane, [(low_ms, low_ms), (high_ms, high_ms)], "green dotted"),
    ]
    for row in rows:
        measured_ms, predicted_ms = row.measured_ms or 0.0, row.predicted_ms or 0.0
        half_ms = 1.96 * (row.predicted_std_ms or 0.0)
        points = [
            across(plane, row.ci95_ms or (measured_ms, measured_ms), predicted_ms),
            upright(plane, measured_ms, (predicted_ms - half_ms, predicted_ms + half_ms)),
            symbol(plane, measured_ms, predicted_ms, "circle", "red" if row.chosen else "blue"),
        ]
        marks.append(hint(_hint(row), points))
    return plot(
        plane,
        marks,
        x_title=f"ms ({_kinds(rows)})",
        y_title="ms (predicted)",
        height_px=340,
        legend=[
            key("circle", "blue", "candidates"),
            key("circle", "red", "chosen"),
            key("line", "green dotted", "exact"),
            key("square", "band", "within ±10 %"),
        ],
    )


def _candidate(plane: Plane, row: CandidateRow, valid_images: int) -> str:
    _, css, name = _STYLE[row.origin]
    latency_ms, score = row.latency_ms or 0.0, 100 * (row.validation_score or 0.0)
    unmeasured = " open" if row.measured_ms is None else ""
    marks = [
        across(plane, _latency_interval(row), score, f"error {css}"),
        upright(plane, latency_ms, _score_interval(row, valid_images), f"error {css}"),
        symbol(plane, latency_ms, score, name, css + unmeasured),
    ]
    if row.chosen:
        marks.append(symbol(plane, latency_ms, score, "ring", "ring"))
    return hint(_hint(row), marks)


def _hint(row: CandidateRow) -> str:
    score = formatting.percent(row.validation_score)
    latency = f"{formatting.ms(row.latency_ms)} ms {row.kind}"
    if row.measured_ms is not None and row.predicted_ms is not None:
        latency += f", {formatting.ms(row.predicted_ms)} ms predicted"
    return f"{row.name}\n{latency}\n{score} on validation images"


def _kinds(rows: list[CandidateRow]) -> str:
    """Return the kinds of latency on an axis; open symbols are candidates without a measurement."""
    measured = sorted({row.kind for row in rows if row.measured_ms is not None})
    unmeasured = sorted({row.kind for row in rows if row.measured_ms is None})
    return "; ".join([*measured, *(f"open: {kind}" if measured else kind for kind in unmeasured)])


def _latency_interval(row: CandidateRow) -> tuple[float, float]:
    """Return the 95 % interval of the latency, or the latency as both ends if it has none."""
    if row.measured_ms is None and row.predicted_ms is not None and row.predicted_std_ms:
        half_ms = 1.96 * row.predicted_std_ms
        return row.predicted_ms - half_ms, row.predicted_ms + half_ms
    latency_ms = row.latency_ms or 0.0
    return row.ci95_ms or (latency_ms, latency_ms)


def _score_interval(row: CandidateRow, valid_images: int) -> tuple[float, float]:
    """Return the 95 % interval of the accuracy in percent."""
    score = row.validation_score or 0.0
    low, high = wilson_interval(score, valid_images) if valid_images else (score, score)
    return 100 * low, 100 * high
