# ruff: noqa: RUF001 - the multiplication sign is meant
"""A network as inline SVG: its blocks from left to right.

The width of a box shows its output channels, the height its input resolution (both on a logarithmic
scale), the colour its op. Below each box is its predicted latency. Colours are CSS variables of the
page; text is escaped.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from html import escape
from itertools import groupby
from math import log2

from hwnas.architecture.ops import OPS
from hwnas.architecture.size import area, axes
from hwnas.report import formatting
from hwnas.report.architecture import BlockRow

_WIDTH = 1120.0
"""Width of the picture if the boxes stay readable, else it is wider (the page scrolls)."""
_GAP, _NARROW, _BROAD = 7.0, 34.0, 128.0
_TOP, _TALL, _LOW = 54.0, 150.0, 44.0
_BARS_TOP, _BARS_TALL = _TOP + _TALL + 62.0, 64.0
_HEIGHT = _BARS_TOP + _BARS_TALL + 30.0
_EXPANDED = (
    "mbconv", "uib", "shuffle_unit", "basic", "bottleneck", "basic_d", "bottleneck_d",
    "double_conv", "basic_se", "bottleneck_se", "basic_se_d", "bottleneck_se_d",
    "convnext",
)  # fmt: skip
_LOGITS = tuple(op for op, row in OPS.items() if row.gives_logits)
_COLOURS = {
    **dict.fromkeys(
        ("conv", "bare_conv", "conv_bn", "dense_layer", "relu_conv_bn", "transition"), "conv"
    ),
    **dict.fromkeys(_LOGITS, "logits"),
    **{op: op for op in ("fused_mbconv", "identity")},
    **dict.fromkeys((*_EXPANDED, "depthwise_separable"), "mbconv"),
    "cell": "fused_mbconv",
}
"""The page's style sheet has a colour for each of these values, and one for other ops."""


def network_svg(blocks: Sequence[BlockRow]) -> str:
    """Return the ``<svg>`` element of a network; empty for a network without blocks.

    A cell is drawn as a single box.
    """
    if not blocks:
        return ""
    blocks = _merge_cells(blocks)
    widths = _widths(blocks)
    lefts = [sum(widths[:i]) + _GAP * i for i in range(len(blocks))]
    total = lefts[-1] + widths[-1]
    label = f"{len(blocks)} blocks from input to output"
    places = zip(blocks, lefts, widths, strict=True)
    parts = [
        f'<svg class="network" viewBox="0 0 {total:.0f} {_HEIGHT:.0f}" '
        f'style="{width_style(total)}" role="img" aria-label="{label}">',
        *_resolutions(blocks, lefts, widths),
        *_line(total),
        *(_box(block, left, width, blocks) for block, left, width in places),
        *_bars(blocks, lefts, widths),
        "</svg>",
    ]
    return "\n".join(parts)


def width_style(width: float) -> str:
    """Return the CSS of a drawing that shrinks to 80 % of its width with the page, then scrolls."""
    return f"min-width: {0.8 * width:.0f}px; max-width: {width:.0f}px"


def network_legend(blocks: Sequence[BlockRow]) -> list[tuple[str, str]]:
    """Return CSS class and name of each op in the picture."""
    shown = dict.fromkeys(block.op for block in _merge_cells(blocks))
    return [(_css(op), _label(op)) for op in shown]


def _merge_cells(blocks: Sequence[BlockRow]) -> list[BlockRow]:
    """Return the rows, with those of each cell merged."""
    rows: list[BlockRow] = []
    for cell, group in groupby(blocks, key=lambda block: block.cell):
        inside = list(group)
        rows += inside if cell is None else [_merge_cell(cell, inside)]
    return rows


def _merge_cell(cell: int, inside: list[BlockRow]) -> BlockRow:
    # the first input of a cell after a reduction is still twice the size
    in_size, last = min((block.in_size for block in inside[:2]), key=area), inside[-1]
    costs_ms = [block.predicted_ms or 0.0 for block in inside]
    return BlockRow(
        key=f"cell {cell + 1}: {len(inside)} blocks",
        op="cell",
        kernel_size=1,
        stride=axes(in_size)[0] // axes(last.out_size)[0],
        expand_ratio=1,
        in_channels=inside[0].in_channels,
        out_channels=last.out_channels,
        in_size=in_size,
        out_size=last.out_size,
        macs=sum(block.macs for block in inside),
        params=sum(block.params for block in inside),
        predicted_ms=sum(costs_ms) if any(costs_ms) else None,
    )


def _widths(blocks: Sequence[BlockRow]) -> list[float]:
    """Return box widths that grow with the logarithm of the channels and fill the page."""
    sizes = [log2(max(block.out_channels, 2)) for block in blocks]
    low, high = min(sizes), max(sizes)
    shares = [1 + 1.2 * (size - low) / (high - low or 1.0) for size in sizes]
    unit = (_WIDTH - _GAP * (len(blocks) - 1)) / sum(shares)
    return [min(max(unit * share, _NARROW), _BROAD) for share in shares]


def _height(block: BlockRow, blocks: Sequence[BlockRow]) -> float:
    largest = log2(max(max(area(b.in_size) for b in blocks), 4))
    return _LOW + (_TALL - _LOW) * log2(max(area(block.in_size), 1)) / largest


def _resolutions(
    blocks: Sequence[BlockRow], lefts: list[float], widths: list[float]
) -> Iterator[str]:
    """Draw brackets above boxes of the same resolution."""
    for size, group in groupby(range(len(blocks)), key=lambda i: blocks[i].in_size):
        inside = list(group)
        left, right = lefts[inside[0]], lefts[inside[-1]] + widths[inside[-1]]
        label = formatting.pixels(size) if right - left > 48 or size != axes(size)[0] else str(size)
        yield f'<path class="bracket" d="M{left:.1f} 24v-6H{right:.1f}v6"/>'
        yield f'<text class="small" x="{(left + right) / 2:.1f}" y="12">{label}</text>'


def _line(total: float) -> Iterator[str]:
    middle = _TOP + _TALL / 2
    yield f'<path class="wire" d="M0 {middle}H{total:.1f}"/>'


def _box(block: BlockRow, left: float, width: float, blocks: Sequence[BlockRow]) -> str:
    tall = _height(block, blocks)
    top, centre = _TOP + (_TALL - tall) / 2, left + width / 2
    lines = _inside(block)
    first = _TOP + _TALL / 2 - 6.5 * (len(lines) - 1) + 4
    inner = "".join(
        f'<text class="inside" x="{centre:.1f}" y="{first + 13 * i:.1f}">{escape(line)}</text>'
        for i, line in enumerate(lines)
    )
    arc = ""
    if block.residual:
        low, high = top + 1, max(top - 13, 28)
        arc = (
            f'<path class="arc" d="M{left + 5:.1f} {low:.1f}V{high:.1f}'
            f'H{left + width - 5:.1f}V{low:.1f}"/>'
        )
    under = (
        f'<text class="small" x="{centre:.1f}" y="{_TOP + _TALL + 20}">{block.out_channels}</text>'
    )
    return (
        f"<g><title>{escape(_title(block))}</title>{arc}"
        f'<rect class="box {_css(block.op)}" x="{left:.1f}" y="{top:.1f}" width="{width:.1f}" '
        f'height="{tall:.1f}" rx="6"/>{inner}{under}</g>'
    )


def _inside(block: BlockRow) -> list[str]:
    if block.op == "identity":
        return ["skip"]
    if block.op in _LOGITS:
        return ["linear"]
    if block.op == "global_pool":
        return ["pool"]
    if block.op == "piece":
        return ["piece"]
    if block.op == "cell":
        return ["cell", "s2"] if block.stride == 2 else ["cell"]
    lines = [f"k{block.kernel_size}"]
    if block.op in (*_EXPANDED, "fused_mbconv"):
        lines.append(f"e{block.expand_ratio:.3g}")
    return [*lines, "s2"] if block.stride == 2 else lines


def _title(block: BlockRow) -> str:
    lines = [
        block.decision or "",
        block.key,
        f"{block.in_channels}×{formatting.pixels(block.in_size)} → "
        f"{block.out_channels}×{formatting.pixels(block.out_size)}",
        f"{formatting.count(block.macs)} MACs, {formatting.count(block.params)} parameters",
        "residual connection" if block.residual else "",
        "" if block.predicted_ms is None else f"{formatting.ms(block.predicted_ms)} ms (predicted)",
        "" if block.probability is None else f"chosen with probability {block.probability:.2f}",
    ]
    return "\n".join(line for line in lines if line)


def _bars(blocks: Sequence[BlockRow], lefts: list[float], widths: list[float]) -> Iterator[str]:
    """Draw a bar below each block: its predicted latency."""
    yield f'<text class="small start" x="0" y="{_TOP + _TALL + 36}">↑ output channels</text>'
    costs = [block.predicted_ms or 0.0 for block in blocks]
    if not any(costs):
        return
    yield (
        f'<text class="small end" x="{lefts[-1] + widths[-1]:.1f}" y="{_TOP + _TALL + 36}">'
        "↓ ms per block (predicted)</text>"
    )
    base = _BARS_TOP + _BARS_TALL
    for block, cost_ms, left, width in zip(blocks, costs, lefts, widths, strict=True):
        tall = max(_BARS_TALL * cost_ms / max(costs), 1.0)
        middle = left + width / 2
        yield (
            f'<rect class="bar {_css(block.op)}" x="{left:.1f}" y="{base - tall:.1f}" '
            f'width="{width:.1f}" height="{tall:.1f}" rx="2"><title>{escape(_title(block))}'
            f"</title></rect>"
        )
        cost = (
            formatting.ms(cost_ms, 2) if cost_ms > max(costs) / 200 else "≈ 0" if cost_ms else "0"
        )
        yield f'<text class="small" x="{middle:.1f}" y="{base + 16:.1f}">{cost}</text>'


def _label(op: str) -> str:
    if op == "cell":
        return "cell (drawn below)"
    return OPS[op].label if op in OPS else op


def _css(op: str) -> str:
    return f"op-{_COLOURS.get(op, 'other')}"
