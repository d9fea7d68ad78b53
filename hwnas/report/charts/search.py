"""The charts of the search: its course, and what it preferred at each decision."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

from hwnas.report import formatting
from hwnas.report.charts.plotly_layout import (
    BLUE,
    GREEN,
    GREY,
    ORANGE,
    RED,
    Figure,
    axis,
    caption,
    layout,
    margin,
    note,
    panels,
    ramp,
    shade,
)
from hwnas.report.report import SearchPoint
from hwnas.report.schema import BlockRow

MOST_NAMES = 20
"""Rows of the chart of decisions: in cells an operation on each node is a candidate."""


def search_curves(search: Sequence[SearchPoint]) -> Figure | None:
    """Three panels over the steps: latency and multiplier, loss and accuracy, entropy."""
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
        ("accuracy, %", [_hundred(p.accuracy) for p in search], GREEN, "y4", "solid"),
        ("entropy of the choices", [p.entropy for p in search], BLUE, "y5", "solid"),
    ]
    traces: list[Figure] = [
        {
            "x": steps, "y": values, "name": name, "mode": "lines", "yaxis": axis,
            "line": {"color": colour, "width": 2, "dash": dash}, "showlegend": False,
            "hovertemplate": f"{name}: %{{y:.4g}}<extra></extra>",
        }
        for name, values, colour, axis, dash in curves
        if any(value is not None for value in values)
    ]  # fmt: skip
    drawn = layout("step", "ms (predicted)", 640)
    drawn.update(panels())
    drawn["hovermode"] = "x"
    warm_up = [step for step, point in zip(steps, search, strict=True) if point.phase == "warm-up"]
    if warm_up:
        drawn["shapes"] = [shade(warm_up[0], warm_up[-1])]
        drawn["annotations"] = [note(warm_up[0], "warm-up: weights only")]
    return {"data": traces, "layout": drawn}


def decisions(blocks: Sequence[BlockRow]) -> Figure | None:
    """What the search preferred (above) and what each option costs (below), by decision."""
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
    where = "<b>%{customdata}</b><br>%{y}: "
    likely: Figure = base | {
        "z": shares, "zmin": 0, "zmax": 1, "colorscale": ramp("59,130,246"),
        "text": [[_cell(v) for v in row] for row in shares], "texttemplate": "%{text}",
        "hovertemplate": where + "probability %{z:.3f}<extra></extra>",
    }  # fmt: skip
    costly: Figure = base | {
        "z": costs, "yaxis": "y2", "colorscale": ramp("245,158,11"),
        "text": [[_short_ms(v) for v in row] for row in costs], "texttemplate": "%{text}",
        "hovertemplate": where + "%{z:.4g} ms (predicted)<extra></extra>",
    }  # fmt: skip
    panel = 26 * len(names)
    drawn = layout("", "", 2 * panel + 210)
    drawn |= {"meta": {"min_width": 150 + 44 * len(decided)}, "margin": margin(bottom=110)}
    drawn["xaxis"] = axis("") | {"tickvals": columns, "ticktext": labels, "tickangle": -60}
    drawn["xaxis"] |= {"showgrid": False, "anchor": "y2"}
    rows: Figure = {"showgrid": False, "dtick": 1}  # every name, also where rows are low
    drawn["yaxis"] = axis("") | rows | {"domain": [0.56, 1]}
    drawn["yaxis2"] = axis("") | rows | {"domain": [0, 0.44]}
    drawn["shapes"] = _frames(decided, names)
    drawn["annotations"] = [
        caption("probability at the end of the search (chosen: framed)", 1.0),
        caption("cost of the option, ms (predicted)", 0.44),
    ]
    with_costs = any(value is not None for row in costs for value in row)
    return {"data": [likely, costly] if with_costs else [likely], "layout": drawn}


def _names(blocks: list[BlockRow]) -> list[str]:
    """Return the candidates; of very many only those that were likeliest somewhere or chosen."""
    names = list(dict.fromkeys(c.name for block in blocks for c in block.candidates))
    if len(names) <= MOST_NAMES:
        return names
    peak = {c.name: 0.0 for block in blocks for c in block.candidates}
    for block in blocks:
        for candidate in block.candidates:
            peak[candidate.name] = max(peak[candidate.name], candidate.probability)
    likely = sorted(peak, key=lambda name: -peak[name])[:MOST_NAMES]
    chosen = {block.chosen for block in blocks}
    return [name for name in names if name in likely or name in chosen]


def _grid(blocks: list[BlockRow], names: list[str], field: str) -> list[list[float | None]]:
    """Return ``[candidate, decision]``; ``None`` where a decision has no such candidate."""
    columns = [{c.name: getattr(c, field) for c in block.candidates} for block in blocks]
    return [[column.get(name) for column in columns] for name in names]


def _frames(blocks: list[BlockRow], names: list[str]) -> list[Figure]:
    frame: Figure = {"type": "rect", "line": {"color": RED, "width": 2}}
    return [
        frame | {"yref": axis, "x0": column - 0.5, "x1": column + 0.5,
                 "y0": names.index(block.chosen) - 0.5, "y1": names.index(block.chosen) + 0.5}
        for column, block in enumerate(blocks)
        for axis in ("y", "y2")
        if block.chosen in names
    ]  # fmt: skip


def _cell(share: float | None) -> str:
    return "" if share is None or share < 0.005 else f"{share:.2f}"


def _short_ms(value_ms: float | None) -> str:
    return "" if value_ms is None else formatting.ms(value_ms, 2)


def _hundred(share: float | None) -> float | None:
    return None if share is None else 100 * share
