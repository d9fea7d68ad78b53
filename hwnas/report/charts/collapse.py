"""The chart that shows whether a search for cells collapsed to skip connections."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

from hwnas.report.charts.plotly_layout import (
    BLUE,
    GREEN,
    GREY,
    ORANGE,
    Figure,
    annotation,
    axis,
    layout,
    shade,
)
from hwnas.report.schema import SearchPoint


def collapse_chart(search: Sequence[SearchPoint]) -> Figure | None:
    """Return panels over the steps: skips of the derived cells, entropy, dominant eigenvalue.

    Panels without data are left out; ``None`` for a search without cells.
    """
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
        ("nodes not fixed", [p.live_nodes for p in search], GREY, "y", stairs),
        ("entropy of the decisions", [p.entropy for p in search], GREEN, "y2", smooth),
        ("dominant eigenvalue", [p.eigenvalue for p in search], BLUE, "y3", dots),
    ]
    traces: list[Figure] = [
        style
        | {
            "x": steps,
            "y": values,
            "name": name,
            "yaxis": panel,
            "showlegend": False,
            "line": style["line"] | {"color": colour},
            "marker": {"color": colour, "size": 6},
            "hovertemplate": f"{name}: %{{y:.4g}}<extra></extra>",
        }
        for name, values, colour, panel, style in curves
        if any(value is not None for value in values)
    ]
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
        drawn["annotations"] = [annotation(warm_up[0], "warm-up: weights only")]
    return {"data": traces, "layout": drawn}
