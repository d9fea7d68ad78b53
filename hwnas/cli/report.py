"""`hwnas report`: render a run's report again and print its results, or compare runs."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from hwnas.cli.framework.command import command, json_option, option, quiet_option
from hwnas.cli.framework.options import progress_bar, wait_idle_option
from hwnas.cli.framework.params import FILE, PATH
from hwnas.cli.tables import print_json, print_table
from hwnas.errors import InvalidFile, UsageError

if TYPE_CHECKING:
    from hwnas.report.schema import Result

COLUMNS = ("target", "verdict", "ms", "kind", "budget, ms", "p90, ms", "accuracy")


@command(
    "report",
    example=(
        "hwnas report runs/host-cpu",
        "hwnas report --compare runs/host-cpu runs/host-cpu-2 --measure --out comparison.html",
    ),
)
@click.argument("runs", nargs=-1, required=True, metavar="RUN...", type=PATH)
@option("--compare", group="Comparison", is_flag=True, help="Show two RUNs or more side by side.")
@option(
    "--measure",
    group="Comparison",
    is_flag=True,
    help="Measure the delivered files now, interleaved on their target.",
)
@wait_idle_option
@option("--out", group="Output", type=FILE, help="Write the comparison as an HTML page.")
@json_option
@quiet_option
def report(
    runs: tuple[Path, ...],
    compare: bool,
    measure: bool,
    wait_idle_s: float,
    out: Path | None,
    as_json: bool,
    quiet: bool,
) -> None:
    """Render report.html and report.md of RUN again, and print its results; or compare RUNs.

    RUN is a run folder or its report.json, which is not changed.

    A comparison has what the runs delivered and where their settings differ. Latencies are compared
    on one device; accuracies on the same test images, image by image.
    """
    if compare:
        _compare(runs, measure, wait_idle_s, out, as_json, quiet)
        return
    if len(runs) > 1:
        raise UsageError(f"{len(runs)} runs are given; compare them with --compare, or name one")
    if measure or out or wait_idle_s:
        raise UsageError("--measure, --wait-idle and --out belong to --compare")
    for run in runs:
        _render(run, as_json)


def _render(run: Path, as_json: bool) -> None:
    from hwnas.recovery import is_run, unfinished
    from hwnas.report.report import Report

    path = run / "report.json" if run.is_dir() else run
    if not path.exists():
        if path.name == "report.json" and is_run(path.parent):
            raise unfinished(path.parent)
        raise InvalidFile(str(path), "no such file; expected a run folder or its report.json")
    result = Report.read(path).at(path.parent)
    if as_json:
        click.echo(path.read_text(encoding="utf-8"), nl=False)
    else:
        if len(result.results) > 1:
            print_table(COLUMNS, map(_cells, result.results))
        click.echo(result.summary(path.parent))
    result.render(path.parent)  # last, as a run may be in a folder that can't be written


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


def _compare(
    runs: tuple[Path, ...],
    measure: bool,
    wait_idle_s: float,
    out: Path | None,
    as_json: bool,
    quiet: bool,
) -> None:
    from hwnas.files import write_atomic
    from hwnas.specialize.comparison.compare import compare_entries
    from hwnas.specialize.comparison.page import page
    from hwnas.specialize.comparison.runs import read_entries
    from hwnas.specialize.comparison.text import sentences, table

    entries = read_entries(runs)
    comparison = compare_entries(entries)
    if measure:
        from hwnas.specialize.comparison.measured import measured

        with progress_bar("measuring", quiet) as progress:
            comparison = measured(comparison, entries, progress, wait_idle_s)
    if as_json:
        print_json(comparison)
    else:
        names = [row.run for row in comparison.rows]
        lines = table(comparison) + [
            (name, [*texts]) for name, texts in comparison.settings.items()
        ]
        print_table(["", *names], [[name, *texts] for name, texts in lines], left=1 + len(names))
        for sentence in sentences(comparison):
            click.echo(sentence)
    if out:  # after the result, which is not lost with a full disk
        write_atomic(out, page(comparison))
        if not as_json:
            click.echo(f"page: {out}")
