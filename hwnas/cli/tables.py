"""How commands answer: a table for people, one JSON document for programs."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import TYPE_CHECKING

import click

if TYPE_CHECKING:
    from rich.table import Table

BETWEEN = 3
"""Blanks between two columns."""
INDENT = 2
"""Blanks before the lines of a row that is printed as a list."""


def print_table(titles: Sequence[str], rows: Iterable[Sequence[str]], left: int = 1) -> None:
    """Print a table; its first ``left`` columns hold text, the others numbers.

    On a terminal, text wraps at blanks. Where even single words have no room, each row is a list
    of its cells. Elsewhere lines have any length, so that rows stay whole for grep.
    """
    import sys

    from rich.console import Console

    cells = [list(row) for row in rows]
    natural = _widths(titles, cells, str.splitlines)
    width = sum(natural) + BETWEEN * len(natural)
    console = Console(markup=False, highlight=False)
    fitted: list[int] | None = natural
    if sys.stdout.isatty():
        least = _widths(titles, cells, str.split)
        fitted = fit(natural, least, console.width - BETWEEN * len(natural))
    else:
        console.width = width
    if fitted is None:
        lists = (_list(titles, row, console.width) for row in cells)
        click.echo("\n" + "\n\n".join(lists) + "\n")
    else:
        console.print(_table(titles, cells, left, fitted))


def fit(natural: Sequence[int], least: Sequence[int], room: int) -> list[int] | None:
    """Return widths of columns that fit in ``room``: the widest ones give way, as far as ``least``
    allows. ``None``: they do not fit."""
    widths = list(natural)
    while sum(widths) > room:
        wide = [place for place, width in enumerate(widths) if width > least[place]]
        if not wide:
            return None
        widths[max(wide, key=widths.__getitem__)] -= 1
    return widths


def print_json(value: object) -> None:
    import msgspec

    click.echo(msgspec.json.format(msgspec.json.encode(value), indent=1).decode())


def _widths(
    titles: Sequence[str],
    rows: Sequence[Sequence[str]],
    parts: Callable[[str], Iterable[str]],
) -> list[int]:
    """Return the width of the widest part of each column's cells, such as a line or a word."""
    from rich.cells import cell_len

    return [
        max((cell_len(part) for text in column for part in parts(text)), default=0)
        for column in zip(titles, *rows, strict=True)
    ]


def _table(
    titles: Sequence[str], rows: Sequence[Sequence[str]], left: int, widths: Sequence[int]
) -> Table:
    from rich import box
    from rich.table import Table

    table = Table(box=box.SIMPLE_HEAD, pad_edge=False)
    for column, (title, width) in enumerate(zip(titles, widths, strict=True)):
        justify = "left" if column < left else "right"
        table.add_column(title, justify=justify, overflow="fold", width=width)
    for row in rows:
        table.add_row(*row)
    return table


def _list(titles: Sequence[str], row: Sequence[str], width: int) -> str:
    """Return a row as lines: its first cell, then each other one behind its title."""
    from textwrap import fill

    named = [pair for pair in zip(titles[1:], row[1:], strict=True) if pair[1].strip()]
    column = max((len(title) for title, _ in named), default=0) + INDENT
    lines = [
        fill(
            text,
            max(width, INDENT + column + 10),
            initial_indent=f"{'':{INDENT}}{title:{column}}",
            subsequent_indent=" " * (INDENT + column),
            break_long_words=False,
            break_on_hyphens=False,
        )
        for title, text in named
    ]
    return "\n".join([row[0], *lines])
