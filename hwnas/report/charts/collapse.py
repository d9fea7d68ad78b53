"""The chart that shows whether a search of cells collapsed to skips."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

from hwnas.report.charts.plotly_layout import (
    BLUE,
    GREEN,
    GREY,
    ORANGE,
    Figure,
    axis,
    layout,
    note,
    shade,
)
from hwnas.report.report import SearchPoint


def collapse(search: Sequence[SearchPoint]) -> Figure | None:
    """Panels over the steps: skips of the derived cells, and where a search has them, entropy and
    dominant eigenvalue. None for a search without cells."""
    if len(search) < 2 or all(point.skips is None for point in search):
        return None
    steps = [point.step for point in search]
    if any(after <= before for before, after in pairwise(steps)):
        steps = list(range(len(search)))
    stairs: Figure = {"mode": "lines", "line": {"width": 2, "shape": "hv"}}
    smooth: Figure = {"mode": "lines", "line": {"width": 2}}
    dots: Figure = {"mode": "lines+markers", "line": {"width": 1}, "connectgaps": True}
    curves = [
        ("skips in the normal cell", [p.skips for p in search], BLUE, "y", stairs),
        ("skips in the reduction cell", [p.reduction_skips for p in search], ORANGE, "y", stairs),
        ("nodes not settled", [p.live_nodes for p in search], GREY, "y", stairs),
        ("entropy of the choices", [p.entropy for p in search], GREEN, "y2", smooth),
        ("dominant eigenvalue", [p.eigenvalue for p in search], BLUE, "y3", dots),
    ]
    traces: list[Figure] = [
        look | {
            "x": steps, "y": values, "name": name, "yaxis": where, "showlegend": False,
            "line": look["line"] | {"color": colour}, "marker": {"color": colour, "size": 6},
            "hovertemplate": f"{name}: %{{y:.4g}}<extra></extra>",
        }
        for name, values, colour, where, look in curves
        if any(value is not None for value in values)
    ]  # fmt: skip
    panels = {
        "yaxis": axis("skips") | {"rangemode": "tozero"},
        "yaxis2": axis("entropy") | {"range": [0, 1.05]},
        "yaxis3": axis("eigenvalue"),
    }
    used = {"yaxis" + trace["yaxis"][1:] for trace in traces}
    panels = {name: panel for name, panel in panels.items() if name in used}
    drawn = layout("step", "", 80 + 150 * len(panels))
    for number, (name, panel) in enumerate(panels.items()):
        top = 1 - number / len(panels)
        bottom = 1 - (number + 1) / len(panels) + (0.08 if number + 1 < len(panels) else 0)
        drawn[name] = panel | {"nticks": 5, "domain": [bottom, top]}
    drawn["xaxis"] = axis("step") | {"anchor": "y" + [*panels][-1].removeprefix("yaxis")}
    drawn["hovermode"] = "x"
    warm_up = [step for step, point in zip(steps, search, strict=True) if point.phase == "warm-up"]
    if warm_up:
        drawn["shapes"] = [shade(warm_up[0], warm_up[-1])]
        drawn["annotations"] = [note(warm_up[0], "warm-up: weights only")]
    return {"data": traces, "layout": drawn}
