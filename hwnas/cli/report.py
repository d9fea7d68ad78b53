"""`hwnas report`: render a run's report again, and say in short what it found."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from hwnas.errors import HwnasError, InvalidFile

if TYPE_CHECKING:
    from rich.table import Table

    from hwnas.report.report import Report, Result

_COLUMNS = ("target", "verdict", "ms", "kind", "budget, ms", "p90, ms", "accuracy")


@click.command("report")
@click.argument("run", type=click.Path(path_type=Path))
@click.option("--json", "as_json", is_flag=True, help="Print the report as one JSON document.")
def report(run: Path, as_json: bool) -> None:
    """Render report.html and report.md of RUN again, and print its results.

    RUN is a run folder or its report.json, which stays as it is.
    """
    from hwnas.report.render import render
    from hwnas.report.report import Report

    path = run / "report.json" if run.is_dir() else run
    if not path.exists():
        raise InvalidFile(str(path), "no such file; expected a run folder or its report.json")
    found = Report.read(path)
    try:
        render(found, path.parent)
    except OSError as error:
        raise HwnasError(f"{path.parent}: {error.strerror or error}") from None
    if as_json:
        click.echo(path.read_text(encoding="utf-8"), nl=False)
    else:
        _print(found, path.parent)


def _print(found: Report, folder: Path) -> None:
    """Print a row for each result if there are several, then the summary's lines."""
    from rich.console import Console

    from hwnas.report.summary import summary

    if len(found.results) > 1:
        Console(highlight=False).print(_table(found.results))
        click.echo()
    click.echo(summary(found, folder))


def _table(results: tuple[Result, ...]) -> Table:
    from rich.table import Table
    from rich.text import Text

    table = Table(*_COLUMNS, box=None, pad_edge=False)
    for result in results:
        table.add_row(*map(Text, _cells(result)))
    return table


def _cells(result: Result) -> list[str]:
    from hwnas.report import formatting

    latency = result.latency
    return [
        result.target,
        result.verdict,
        formatting.ms(latency.median_ms if latency else None),
        latency.kind if latency else "–",  # noqa: RUF001
        formatting.ms(result.budget_ms),
        formatting.ms(latency.p90_ms if latency else None),
        formatting.percent(formatting.shown_accuracy(result)),
    ]
