"""The final probabilities of each decision, and the latencies of its candidates, as tables."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from html import escape

from hwnas.report import formatting
from hwnas.report.architecture import BlockRow

MAX_CANDIDATES = 20
"""Rows of the chart of decisions; cells have a candidate for each operation on each node."""

Grid = list[list[float | None]]
"""``[candidate, decision]``; ``None`` if a decision has no such candidate."""


def decision_chart(blocks: Sequence[BlockRow]) -> str:
    """Return shaded tables of each candidate's probability (top) and latency (bottom), by decision.

    Empty for a network without decisions.
    """
    decided = [block for block in blocks if block.candidates]
    if not decided:
        return ""
    names = _names(decided)
    shares, costs_ms = _grid(decided, names, "probability"), _grid(decided, names, "cost_ms")
    tables = _table(
        "probability at the end of the search (frame: chosen)",
        decided,
        names,
        shares,
        "share",
        _cell,
    )
    largest_ms = max((cost_ms or 0.0 for row in costs_ms for cost_ms in row), default=0.0)
    if largest_ms:
        tables += _table(
            "latency of the candidate, ms (predicted)", decided, names, costs_ms, "cost", _short_ms
        )
    return tables


def _table(
    caption: str,
    blocks: list[BlockRow],
    names: list[str],
    grid: Grid,
    css: str,
    text: Callable[[float | None], str],
) -> str:
    """Return a table whose cells are shaded in proportion to the largest possible value."""
    largest = 1.0 if css == "share" else max(v or 0.0 for row in grid for v in row)
    labels = [escape(block.decision or block.key) for block in blocks]
    head = "".join(f"<th><span>{label}</span></th>" for label in labels)
    rows: list[str] = []
    for name, values in zip(names, grid, strict=True):
        cells = [
            f'<td{" class=chosen" if block.chosen == name else ""} title="{label}: {escape(name)}" '
            f'style="--shade: {80 * (value or 0.0) / largest:.0f}%">{text(value)}</td>'
            for block, label, value in zip(blocks, labels, values, strict=True)
        ]
        rows.append(f"<tr><th>{escape(name)}</th>{''.join(cells)}</tr>")
    return (
        f'<div class="scroll"><table class="shaded {css}"><caption>{caption}</caption>'
        f"<thead><tr><th></th>{head}</tr></thead><tbody>{''.join(rows)}</tbody></table></div>"
    )


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


def _grid(blocks: list[BlockRow], names: list[str], field: str) -> Grid:
    columns = [{c.name: getattr(c, field) for c in block.candidates} for block in blocks]
    return [[column.get(name) for column in columns] for name in names]


def _cell(share: float | None) -> str:
    return "" if share is None or share < 0.005 else f"{share:.2f}"


def _short_ms(value_ms: float | None) -> str:
    return "" if value_ms is None else formatting.ms(value_ms, 2)
