"""The charts of one result, as plotly figures in plain JSON form.

The colours are readable on white and on black; text and grid take theirs from the page's style
sheet, so that a change of the colour scheme needs no script.
"""

from __future__ import annotations

from collections.abc import Sequence

from hwnas.measurement.statistics import wilson_interval
from hwnas.report import formatting
from hwnas.report.charts.collapse import collapse_chart
from hwnas.report.charts.plotly_layout import (
    BLUE,
    GREEN,
    GREY,
    ORANGE,
    RED,
    Figure,
    layout,
    mark_budget,
)
from hwnas.report.charts.search import decision_chart, search_curves
from hwnas.report.schema import CandidateRow, Origin, Result, SearchPoint

_STYLE: dict[Origin, tuple[str, str, str]] = {
    "search": ("search", BLUE, "circle"),
    "uniform": ("uniform baseline", ORANGE, "square"),
    "published": ("published cells", ORANGE, "square"),
    "resolution": ("whole network, smaller images", ORANGE, "square"),
    "sibling": ("other trained network", GREEN, "triangle-up"),
    "random": ("random", GREY, "diamond"),
}


def result_charts(
    result: Result, search: Sequence[SearchPoint], valid_images: int
) -> dict[str, Figure]:
    """Return the charts of one result by name, without those that have no data."""
    charts = {
        "accuracy": accuracy_against_latency(result, valid_images),
        "prediction": predicted_against_measured(result),
        "search": search_curves(search),
        "collapse": collapse_chart(search),
        "decisions": decision_chart(result.architecture.blocks),
    }
    return {name: figure for name, figure in charts.items() if figure is not None}


def accuracy_against_latency(result: Result, valid_images: int) -> Figure | None:
    """Plot validation accuracy, or agreement, over latency of the trained candidates, with 95 %
    intervals."""
    rows = [row for row in result.candidates if row.validation_score is not None]
    rows = [row for row in rows if row.latency_ms is not None]
    if len(rows) < 2:
        return None
    traces: list[Figure] = []
    for origin, (name, colour, symbol) in _STYLE.items():
        group = [row for row in rows if row.origin == origin]
        if group:
            traces.append(_candidates(group, name, colour, symbol, valid_images))
    traces += [_chosen(row) for row in rows if row.chosen]
    drawn = layout(f"latency, ms ({_kinds(rows)})", f"validation {result.score_name}, %", 440)
    low_ms, high_ms = _latency_range(rows, result.budget_ms)
    drawn["xaxis"]["range"] = [low_ms, high_ms]
    if result.budget_ms is not None:
        mark_budget(drawn, result.budget_ms, high_ms)
    return {"data": traces, "layout": drawn}


def predicted_against_measured(result: Result) -> Figure | None:
    """Plot predicted over measured latency, with the diagonal and a band of ±10 %."""
    rows = [row for row in result.candidates if row.measured_ms and row.predicted_ms]
    if len(rows) < 2:
        return None
    measured_ms = [row.measured_ms or 0.0 for row in rows]
    predicted_ms = [row.predicted_ms or 0.0 for row in rows]
    both_ms = measured_ms + predicted_ms
    low_ms, high_ms = 0.88 * min(both_ms), 1.12 * max(both_ms)
    ends = [low_ms, high_ms]
    band: Figure = {
        "x": [*ends, *reversed(ends)],
        "y": [0.9 * low_ms, 0.9 * high_ms, 1.1 * high_ms, 1.1 * low_ms],
        "fill": "toself",
        "fillcolor": "rgba(16,185,129,0.14)",
        "line": {"width": 0},
        "mode": "lines",
        "name": "within ±10 %",
        "hoverinfo": "skip",
    }
    diagonal: Figure = {
        "x": ends,
        "y": ends,
        "mode": "lines",
        "name": "exact",
        "hoverinfo": "skip",
        "line": {"color": GREEN, "width": 1.5, "dash": "dot"},
    }
    points: Figure = {
        "x": measured_ms,
        "y": predicted_ms,
        "mode": "markers",
        "name": "candidates",
        "text": [_hover(row) for row in rows],
        "hoverinfo": "text",
        "marker": {"size": 10, "color": [RED if row.chosen else BLUE for row in rows]},
        "error_x": _intervals([row.ci95_ms for row in rows], measured_ms) | {"color": GREY},
        "error_y": {
            "type": "data",
            "thickness": 1,
            "color": GREY,
            "array": [1.96 * (row.predicted_std_ms or 0.0) for row in rows],
        },
    }
    drawn = layout(f"ms ({_kinds(rows)})", "ms (predicted)", 420)
    drawn["meta"] = {"max_width": 680}
    drawn["xaxis"]["range"] = drawn["yaxis"]["range"] = ends
    return {"data": [band, diagonal, points], "layout": drawn}


def _candidates(
    rows: list[CandidateRow], name: str, colour: str, symbol: str, valid_images: int
) -> Figure:
    latencies_ms = [row.latency_ms or 0.0 for row in rows]
    shares = [row.validation_score or 0.0 for row in rows]
    bounds = [wilson_interval(share, valid_images) for share in shares] if valid_images else []
    symbols = [symbol if row.measured_ms is not None else f"{symbol}-open" for row in rows]
    return {
        "x": latencies_ms,
        "y": [100 * share for share in shares],
        "mode": "markers",
        "name": name,
        "text": [_hover(row) for row in rows],
        "hoverinfo": "text",
        "marker": {"color": colour, "symbol": symbols, "size": 10},
        "error_x": _intervals([_latency_interval(row) for row in rows], latencies_ms),
        "error_y": {
            "type": "data",
            "symmetric": False,
            "thickness": 1,
            "width": 3,
            "array": [100 * (high - s) for s, (_, high) in zip(shares, bounds, strict=False)],
            "arrayminus": [100 * (s - low) for s, (low, _) in zip(shares, bounds, strict=False)],
        },
    }


def _latency_range(rows: list[CandidateRow], budget_ms: float | None) -> tuple[float, float]:
    """Return the ends of the latency axis: all intervals and the budget, with a margin."""
    bounds = [_latency_interval(row) or (row.latency_ms or 0.0,) * 2 for row in rows]
    marks = [end for pair in bounds for end in pair] + [budget_ms or bounds[0][0]]
    margin_ms = 0.07 * (max(marks) - min(marks)) or 0.05 * max(marks)
    return min(marks) - margin_ms, max(marks) + margin_ms


def _chosen(row: CandidateRow) -> Figure:
    return {
        "x": [row.latency_ms],
        "y": [100 * (row.validation_score or 0.0)],
        "mode": "markers",
        "name": "chosen",
        "hoverinfo": "skip",
        "marker": {"size": 20, "symbol": "circle-open", "color": RED, "line": {"width": 2.5}},
    }


def _hover(row: CandidateRow) -> str:
    score = formatting.percent(row.validation_score)
    latency = f"{formatting.ms(row.latency_ms)} ms {row.kind}"
    if row.measured_ms is not None and row.predicted_ms is not None:
        latency += f", {formatting.ms(row.predicted_ms)} ms predicted"
    name = row.name.replace("&", "&amp;").replace("<", "&lt;")
    return f"<b>{name}</b><br>{latency}<br>{score} on validation images"


def _kinds(rows: list[CandidateRow]) -> str:
    """Return the kinds of latency on an axis; open symbols are candidates without a measurement."""
    measured = sorted({row.kind for row in rows if row.measured_ms is not None})
    unmeasured = sorted({row.kind for row in rows if row.measured_ms is None})
    return "; ".join([*measured, *(f"open: {kind}" if measured else kind for kind in unmeasured)])


def _latency_interval(row: CandidateRow) -> tuple[float, float] | None:
    if row.measured_ms is None and row.predicted_ms is not None and row.predicted_std_ms:
        half_ms = 1.96 * row.predicted_std_ms
        return row.predicted_ms - half_ms, row.predicted_ms + half_ms
    return row.ci95_ms


def _intervals(bounds: list[tuple[float, float] | None], centres: list[float]) -> Figure:
    pairs = [pair or (centre, centre) for pair, centre in zip(bounds, centres, strict=True)]
    return {
        "type": "data",
        "symmetric": False,
        "thickness": 1,
        "width": 3,
        "array": [high - centre for (_, high), centre in zip(pairs, centres, strict=True)],
        "arrayminus": [centre - low for (low, _), centre in zip(pairs, centres, strict=True)],
    }
