"""`hwnas report`: render a run's report again, and print its results."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from hwnas.cli.framework.command import command, json_option
from hwnas.cli.framework.params import PATH
from hwnas.cli.tables import print_table
from hwnas.errors import HwnasError, InvalidFile

if TYPE_CHECKING:
    from hwnas.report.schema import Result

COLUMNS = ("target", "verdict", "ms", "kind", "budget, ms", "p90, ms", "accuracy")


@command("report", example="hwnas report runs/host-cpu")
@click.argument("run", type=PATH)
@json_option
def report(run: Path, as_json: bool) -> None:
    """Render report.html and report.md of RUN again, and print its results.

    RUN is a run folder or its report.json, which is not changed.
    """
    from hwnas.report.report import Report

    path = run / "report.json" if run.is_dir() else run
    if not path.exists():
        raise InvalidFile(str(path), "no such file; expected a run folder or its report.json")
    result = Report.read(path)
    try:
        result.render(path.parent)
    except OSError as error:
        raise HwnasError(f"{path.parent}: {error.strerror or error}") from None
    if as_json:
        click.echo(path.read_text(encoding="utf-8"), nl=False)
        return
    if len(result.results) > 1:
        print_table(COLUMNS, map(_cells, result.results))
    click.echo(result.summary(path.parent))


def _cells(result: Result) -> list[str]:
    from hwnas.report import formatting

    latency = result.latency
    return [
        result.target,
        result.verdict,
        formatting.ms(latency.median_ms if latency else None),
        latency.kind if latency else formatting.ms(None),
        formatting.ms(result.budget_ms),
        formatting.ms(latency.p90_ms if latency else None),
        formatting.accuracy(result.score),
    ]
