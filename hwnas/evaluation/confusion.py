"""The confusion matrix as an SVG drawing, for a few classes and for hundreds."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from html import escape
from typing import NamedTuple

from hwnas.evaluation.result import Confusion

CELL_PX = ((10, 52), (20, 34), (40, 26), (75, 14), (100, 10), (150, 9))
"""Pairs of a number of columns and the side of a cell up to that number."""

SMALLEST_CELL_PX = 4
COUNTS_FROM_PX = 26
"""Cells of this side and larger show their counts."""

LABELS_FROM_PX = 9
"""Cells of this side and larger have the names of their classes beside them."""

LABEL_LETTERS = 24
SMALL_LABEL_LETTERS = 18
"""Letters of names beside cells without counts: 100 classes then fit the page."""

LETTER_SHARE = 0.6
"""Largest width of a letter, as a share of the font size."""


class _Layout(NamedTuple):
    cell_px: int
    font_px: int
    margin_px: int
    """Room for the names at the left and at the top."""


def confusion_svg(confusion: Confusion) -> str:
    """Return the drawing; classes have the styles of ``evaluation.html.j2``.

    Cells are coloured by their share of the row, and a pointer over them shows the names.
    """
    layout = _layout(confusion)
    width, height = (
        layout.margin_px + layout.cell_px * len(names) + 1
        for names in (confusion.columns, confusion.rows)
    )
    parts = [*_grid(confusion, layout), *_cells(confusion, layout), *_labels(confusion, layout)]
    return (
        f'<svg class="confusion" width="{width}" height="{height}" '
        f'viewBox="0 0 {width} {height}" role="img" aria-label="confusion matrix" '
        f'font-size="{layout.font_px}">{"".join(parts)}</svg>'
    )


def _layout(confusion: Confusion) -> _Layout:
    columns = len(confusion.columns)
    cell_px = next((px for limit, px in CELL_PX if columns <= limit), SMALLEST_CELL_PX)
    font_px = min(13, cell_px - 1)
    if cell_px < LABELS_FROM_PX:
        return _Layout(cell_px, font_px, 1)
    letters = max(len(_short(name, cell_px)) for name in confusion.columns)
    return _Layout(cell_px, font_px, round(LETTER_SHARE * font_px * letters) + 10)


def _grid(confusion: Confusion, layout: _Layout) -> Iterator[str]:
    """Yield a line after each row and column, or after each tenth of many."""
    left, cell = layout.margin_px, layout.cell_px
    width, height = cell * len(confusion.columns), cell * len(confusion.rows)
    step = 1 if cell >= COUNTS_FROM_PX else 10
    yield f'<rect class="field" x="{left}" y="{left}" width="{width}" height="{height}"/>'
    lines = [f"M{left} {left + cell * row}h{width}" for row in _every(confusion.rows, step)]
    lines += [f"M{left + cell * k} {left}v{height}" for k in _every(confusion.columns, step)]
    yield f'<path class="lines" d="{"".join(lines)}"/>'


def _every(names: Sequence[str], step: int) -> range:
    return range(step, len(names), step)


def _cells(confusion: Confusion, layout: _Layout) -> Iterator[str]:
    """Yield a square for each cell that has images."""
    cell = layout.cell_px
    for row, (name, counts) in enumerate(zip(confusion.rows, confusion.counts, strict=True)):
        total = sum(counts)
        for column, count in enumerate(counts):
            if not count:
                continue
            x, y = layout.margin_px + cell * column, layout.margin_px + cell * row
            kind, share = "right" if row == column else "wrong", count / total
            title = f"{name} as {confusion.columns[column]}: {count} of {total} ({share:.1%})"
            yield (
                f'<rect class="{kind}" x="{x}" y="{y}" width="{cell}" height="{cell}" '
                f'fill-opacity="{_opacity(share)}"><title>{escape(title)}</title></rect>'
            )
            if cell >= COUNTS_FROM_PX:
                font_px = min(layout.font_px, round(cell * 1.4 / max(len(str(count)), 2)))
                middle = f'x="{x + cell / 2:g}" y="{y + cell / 2 + font_px * 0.36:.1f}"'
                yield f'<text class="count" {middle} font-size="{font_px}">{count}</text>'


def _opacity(share: float) -> str:
    """Return the opacity of a cell, with which even a single image is visible."""
    return f"{0.12 + 0.68 * share:.2f}"


def _labels(confusion: Confusion, layout: _Layout) -> Iterator[str]:
    """Yield the names of the rows at the left and of the columns, turned, at the top."""
    cell, edge = layout.cell_px, layout.margin_px - 5
    if cell < LABELS_FROM_PX:
        return
    baseline = cell / 2 + layout.font_px * 0.36
    for row, name in enumerate(confusion.rows):
        y = layout.margin_px + cell * row + baseline
        yield f'<text class="row" x="{edge}" y="{y:.1f}">{escape(_short(name, cell))}</text>'
    for column, name in enumerate(confusion.columns):
        x = layout.margin_px + cell * column + baseline
        turn = f"translate({x:.1f} {edge}) rotate(-90)"
        yield f'<text class="column" transform="{turn}">{escape(_short(name, cell))}</text>'


def _short(name: str, cell_px: int) -> str:
    letters = LABEL_LETTERS if cell_px >= COUNTS_FROM_PX else SMALL_LABEL_LETTERS
    return name if len(name) <= letters else f"{name[: letters - 1]}…"
