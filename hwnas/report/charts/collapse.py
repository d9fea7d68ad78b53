"""The chart that shows whether a search for cells collapsed to skip connections."""

from __future__ import annotations

from collections.abc import Sequence

from hwnas.report.charts.plot import Curve, panels
from hwnas.report.schema import SearchPoint


def collapse_chart(search: Sequence[SearchPoint]) -> str:
    """Return panels over the steps: skips of the derived cells, entropy, dominant eigenvalue.

    Empty for a search without cells.
    """
    if len(search) < 2 or all(point.skips is None for point in search):
        return ""
    skips = [
        Curve("skips in the normal cell", [p.skips for p in search], "blue", stairs=True),
        Curve(
            "skips in the reduction cell",
            [p.reduction_skips for p in search],
            "orange",
            stairs=True,
        ),
        Curve("nodes not fixed", [p.live_nodes for p in search], "grey", stairs=True),
    ]
    entropy = Curve("entropy of the decisions", [p.entropy for p in search], "green")
    eigenvalue = Curve("dominant eigenvalue", [p.eigenvalue for p in search], "blue", dots=True)
    return panels(search, [skips, [entropy], [eigenvalue]])
