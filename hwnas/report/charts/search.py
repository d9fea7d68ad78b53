"""The charts of the search: its course, and the final probabilities of each decision."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

from hwnas.report import formatting
from hwnas.report.architecture import BlockRow
from hwnas.report.charts.plotly_layout import (
    BLUE,
    GREEN,
    GREY,
    ORANGE,
    RED,
    Figure,
    annotation,
    axis,
    caption,
    layout,
    margin,
    panels,
    ramp,
    shade,
)
from hwnas.report.schema import SearchPoint

MAX_CANDIDATES = 20
"""Rows of the chart of decisions; cells have a candidate for each operation on each node."""


def search_curves(search: Sequence[SearchPoint]) -> Figure | None:
    """Return three panels over the steps: latency and multiplier, loss and accuracy, entropy."""
    if len(search) < 2:
        return None
    steps = [point.step for point in search]
    if any(after <= before for before, after in pairwise(steps)):
        steps = list(range(len(search)))
    curves = [
        ("expected latency, ms (predicted)", [p.expected_ms for p in search], BLUE, "y", "solid"),
        ("budget, ms", [p.budget_ms for p in search], RED, "y", "dash"),
        ("multiplier", [p.multiplier for p in search], ORANGE, "y2", "dot"),
        ("loss", [p.loss for p in search], GREY, "y3", "solid"),
        ("accuracy, %", [_percent(p.accuracy) for p in search], GREEN, "y4", "solid"),
        ("entropy of the decisions", [p.entropy for p in search], BLUE, "y5", "solid"),
    ]
    traces: list[Figure] = [
        {
            "x": steps,
            "y": values,
            "name": name,
            "mode": "lines",
            "yaxis": axis,
            "line": {"color": colour, "width": 2, "dash": dash},
            "showlegend": False,
            "hovertemplate": f"{name}: %{{y:.4g}}<extra></extra>",
        }
        for name, values, colour, axis, dash in curves
        if any(value is not None for value in values)
    ]
    drawn = layout("step", "ms (predicted)", 640)
    drawn.update(panels())
    drawn["hovermode"] = "x"
    warm_up = [step for step, point in zip(steps, search, strict=True) if point.phase == "warm-up"]
    if warm_up:
        drawn["shapes"] = [shade(warm_up[0], warm_up[-1])]
        drawn["annotations"] = [annotation(warm_up[0], "warm-up: weights only")]
    return {"data": traces, "layout": drawn}


def decision_chart(blocks: Sequence[BlockRow]) -> Figure | None:
    """Return heat maps of each candidate's probability (top) and latency (bottom), by decision."""
    decided = [block for block in blocks if block.candidates]
    if not decided:
        return None
    names = _names(decided)[::-1]
    labels = [block.decision or block.key for block in decided]
    shares = _grid(decided, names, "probability")
    costs = _grid(decided, names, "cost_ms")
    columns = list(range(len(decided)))
    base: Figure = {"type": "heatmap", "x": columns, "y": names, "xgap": 2, "ygap": 2}
    base |= {"showscale": False, "textfont": {"size": 10}, "customdata": [labels] * len(names)}
    heading = "<b>%{customdata}</b><br>%{y}: "
    probability_map: Figure = base | {
        "z": shares,
        "zmin": 0,
        "zmax": 1,
        "colorscale": ramp("59,130,246"),
        "text": [[_cell(v) for v in row] for row in shares],
        "texttemplate": "%{text}",
        "hovertemplate": heading + "probability %{z:.3f}<extra></extra>",
    }
    cost_map: Figure = base | {
        "z": costs,
        "yaxis": "y2",
        "colorscale": ramp("245,158,11"),
        "text": [[_short_ms(v) for v in row] for row in costs],
        "texttemplate": "%{text}",
        "hovertemplate": heading + "%{z:.4g} ms (predicted)<extra></extra>",
    }
    panel = 26 * len(names)
    drawn = layout("", "", 2 * panel + 210)
    drawn |= {"meta": {"min_width": 150 + 44 * len(decided)}, "margin": margin(bottom=110)}
    drawn["xaxis"] = axis("") | {"tickvals": columns, "ticktext": labels, "tickangle": -60}
    drawn["xaxis"] |= {"showgrid": False, "anchor": "y2"}
    rows: Figure = {"showgrid": False, "dtick": 1}  # every name, even if rows are low
    drawn["yaxis"] = axis("") | rows | {"domain": [0.56, 1]}
    drawn["yaxis2"] = axis("") | rows | {"domain": [0, 0.44]}
    drawn["shapes"] = _frames(decided, names)
    drawn["annotations"] = [
        caption("probability at the end of the search (frame: chosen)", 1.0),
        caption("latency of the candidate, ms (predicted)", 0.44),
    ]
    with_costs = any(value is not None for row in costs for value in row)
    return {
        "data": [probability_map, cost_map] if with_costs else [probability_map],
        "layout": drawn,
    }


def _names(blocks: list[BlockRow]) -> list[str]:
    """Return the candidates; if there are very many, the chosen and the most probable ones."""
    names = list(dict.fromkeys(c.name for block in blocks for c in block.candidates))
    if len(names) <= MAX_CANDIDATES:
        return names
    peak = {c.name: 0.0 for block in blocks for c in block.candidates}
    for block in blocks:
        for candidate in block.candidates:
            peak[candidate.name] = max(peak[candidate.name], candidate.probability)
    probable = sorted(peak, key=lambda name: -peak[name])[:MAX_CANDIDATES]
    chosen = {block.chosen for block in blocks}
    return [name for name in names if name in probable or name in chosen]


def _grid(blocks: list[BlockRow], names: list[str], field: str) -> list[list[float | None]]:
    """Return ``[candidate, decision]``; ``None`` if a decision has no such candidate."""
    columns = [{c.name: getattr(c, field) for c in block.candidates} for block in blocks]
    return [[column.get(name) for column in columns] for name in names]


def _frames(blocks: list[BlockRow], names: list[str]) -> list[Figure]:
    frame: Figure = {"type": "rect", "line": {"color": RED, "width": 2}}
    return [
        frame
        | {
            "yref": axis,
            "x0": column - 0.5,
            "x1": column + 0.5,
            "y0": names.index(block.chosen) - 0.5,
            "y1": names.index(block.chosen) + 0.5,
        }
        for column, block in enumerate(blocks)
        for axis in ("y", "y2")
        if block.chosen in names
    ]


def _cell(share: float | None) -> str:
    return "" if share is None or share < 0.005 else f"{share:.2f}"


def _short_ms(value_ms: float | None) -> str:
    return "" if value_ms is None else formatting.ms(value_ms, 2)


def _percent(share: float | None) -> float | None:
    return None if share is None else 100 * share
