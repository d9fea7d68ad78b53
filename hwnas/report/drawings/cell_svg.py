"""A cell as inline SVG: its nodes from left to right, and one line for each operation.

Liu, Simonyan and Yang (ICLR 2019, arXiv:1806.09055) draw cells as graphs, in which labels cross.
Here an operation is an arrow on its own line, from the node whose output it takes to the node that
sums it. Colours are CSS variables of the page; text is escaped.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from html import escape

from hwnas.report import formatting
from hwnas.report.architecture import CellRow, EdgeRow
from hwnas.report.drawings.network_svg import width_style

_STEP = 172.0
"""Distance between two nodes."""
_LEFT, _TOP, _LINE = 76.0, 58.0, 30.0
_PILL_WIDTH, _PILL_TALL = 128.0, 22.0
_INPUTS = ("cell k-2", "cell k-1")
_COLOURS = {"skip_connect": "identity", "sep": "mbconv", "dil": "fused_mbconv", "conv": "conv"}
_NAMES = {
    "op-identity": "skip",
    "op-other": "pool",
    "op-mbconv": "separable convolution",
    "op-fused_mbconv": "dilated convolution",
    "op-conv": "convolution",
}


def cell_svgs(cells: Sequence[CellRow]) -> list[tuple[str, str]]:
    """Return title and ``<svg>`` element of each kind of cell."""
    return [(_title(cell), _drawing(cell)) for cell in cells]


def cell_legend(cells: Sequence[CellRow]) -> list[tuple[str, str]]:
    """Return CSS class and name of each kind of operation in the pictures."""
    ops = [edge.op for cell in cells for node in cell.nodes for edge in node]
    return [(css, _NAMES[css]) for css in dict.fromkeys(map(_css, ops))]


def _title(cell: CellRow) -> str:
    costs_ms = [edge.predicted_ms or 0.0 for node in cell.nodes for edge in node]
    title = f"{cell.kind.capitalize()} cell, {cell.copies} in the network"
    if not any(costs_ms):
        return title
    return f"{title}; its operations take {formatting.ms(sum(costs_ms))} ms (predicted)"


def _drawing(cell: CellRow) -> str:
    nodes = len(_INPUTS) + len(cell.nodes)
    edges = [(edge, node) for node, row in enumerate(cell.nodes, len(_INPUTS)) for edge in row]
    width = 2 * _LEFT + _STEP * (nodes - 1)
    height = _TOP + _LINE * len(edges) + 34
    label = f"{cell.kind} cell: {len(edges)} operations on {nodes} nodes"
    parts = [
        f'<svg class="network cell" viewBox="0 0 {width:.0f} {height:.0f}" '
        f'style="{width_style(width)}" role="img" aria-label="{escape(label)}">',
        *_nodes(cell, height),
        *(_edge(edge, node, line) for line, (edge, node) in enumerate(edges)),
        "</svg>",
    ]
    return "\n".join(parts)


def _nodes(cell: CellRow, height: float) -> Iterator[str]:
    """Draw a column for each node, and mark those that form the cell's output."""
    bottom = height - 28
    for node in range(len(_INPUTS) + len(cell.nodes)):
        x = _place(node)
        name = _INPUTS[node] if node < len(_INPUTS) else f"node {node}"
        yield f'<path class="column" d="M{x:.1f} 34V{bottom:.1f}"/>'
        yield f'<rect class="box op-conv" x="{x - 62:.1f}" y="10" width="124" height="24" rx="12"/>'
        yield f'<text class="inside" x="{x:.1f}" y="26">{name}</text>'
        if node in cell.concat:
            yield f'<text class="small" x="{x:.1f}" y="{bottom + 16:.1f}">↓ output</text>'


def _edge(edge: EdgeRow, node: int, line: int) -> str:
    y = _TOP + _LINE * line
    start, end = _place(edge.source), _place(node)
    middle = end - _STEP / 2
    hint = f"{edge.op} from node {edge.source} to node {node}"
    if edge.probability is not None:
        hint += f"\nchosen with probability {edge.probability:.2f}"
    if edge.predicted_ms is not None:
        hint += f"\n{formatting.ms(edge.predicted_ms)} ms (predicted) in all such cells"
    return (
        f"<g><title>{escape(hint)}</title>"
        f'<circle class="dot" cx="{start:.1f}" cy="{y:.1f}" r="4"/>'
        f'<path class="wire" d="M{start:.1f} {y:.1f}H{end - 7:.1f}"/>'
        f'<path class="head" d="M{end - 1:.1f} {y:.1f}l-9 -4.5v9z"/>'
        f'<rect class="box {_css(edge.op)}" x="{middle - _PILL_WIDTH / 2:.1f}" '
        f'y="{y - _PILL_TALL / 2:.1f}" width="{_PILL_WIDTH:.0f}" height="{_PILL_TALL:.0f}" rx="6"/>'
        f'<text class="inside" x="{middle:.1f}" y="{y + 4:.1f}">{escape(edge.op)}</text></g>'
    )


def _place(node: int) -> float:
    return _LEFT + _STEP * node


def _css(op: str) -> str:
    """Return the CSS class of an operation, by its name or else by the part before the first _."""
    return f"op-{_COLOURS.get(op, _COLOURS.get(op.split('_')[0], 'other'))}"
