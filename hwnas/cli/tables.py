"""How commands answer: a table for people, one JSON document for programs."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import click

PIPE_WIDTH = 160
"""Columns where stdout is no terminal, so that rows stay whole for grep."""


def print_table(titles: Sequence[str], rows: Iterable[Sequence[str]], left: int = 1) -> None:
    """Print a table; its first ``left`` columns hold text, the others numbers."""
    import sys

    from rich import box
    from rich.console import Console
    from rich.table import Table

    table = Table(box=box.SIMPLE_HEAD, pad_edge=False)
    for column, title in enumerate(titles):
        table.add_column(title, justify="left" if column < left else "right", overflow="fold")
    for row in rows:
        table.add_row(*row)
    width = None if sys.stdout.isatty() else PIPE_WIDTH
    Console(markup=False, highlight=False, width=width).print(table)


def print_json(value: object) -> None:
    import msgspec

    click.echo(msgspec.json.format(msgspec.json.encode(value), indent=1).decode())
