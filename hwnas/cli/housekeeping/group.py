"""`hwnas runs`: list runs with their verdicts, and delete what a finished run no longer needs."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from hwnas.cli.framework.command import Group, json_option, option
from hwnas.cli.framework.params import PATH
from hwnas.cli.tables import print_json, print_table

if TYPE_CHECKING:
    from hwnas.specialize.housekeeping.listing import RunRow

COLUMNS = ("run", "state", "verdict", "target", "budget", "latency", "accuracy", "date", "size")


class _Runs(Group):
    """A group that lists the runs below the working folder if it is called alone."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        return super().parse_args(ctx, args or ["list"])


@click.group(cls=_Runs)
def runs() -> None:
    """List runs with their verdicts, and delete what a finished run no longer needs.

    `hwnas runs` alone is `hwnas runs list`.
    """


@runs.command("list", example=("hwnas runs list", "hwnas runs list ~/experiments"))
@click.argument("folder", type=PATH, default=Path())
@json_option
def list_runs(folder: Path, as_json: bool) -> None:
    """List the runs in FOLDER and below: state, verdict, latency, accuracy, date, size.

    FOLDER is the working folder unless it is given. A run of several targets or budgets has a line
    for each.
    """
    from hwnas.specialize.housekeeping import listing

    rows = listing.list_runs(folder)
    if as_json:
        print_json(rows)
    elif rows:
        print_table(COLUMNS, map(_cells, rows), left=5)
    else:
        click.echo(f"no runs in {folder.resolve()} and below")


def _cells(row: RunRow) -> list[str]:
    from hwnas.report import formatting

    latency = "" if row.measured_ms is None else f"{formatting.ms(row.measured_ms)} ms {row.kind}"
    return [
        row.run,
        row.state,
        row.verdict or "",
        row.target,
        row.budget,
        latency,
        "" if row.accuracy is None else formatting.percent(row.accuracy),
        row.date,
        formatting.size(row.size_bytes),
    ]


@runs.command("clean", example=("hwnas runs clean runs/host-cpu --yes",))
@click.argument("run", type=PATH)
@option("--yes", is_flag=True, help="Delete it; without, nothing is deleted.")
def clean(run: Path, yes: bool) -> None:
    """Show what of the finished RUN may be deleted, and delete it with --yes.

    These are checkpoints and networks that were not delivered. Delivered files, their weights,
    reports, measurements and logs stay; the run can't be resumed then.
    """
    from hwnas.report import formatting
    from hwnas.specialize.housekeeping import cleaning

    parts = cleaning.clean(run) if yes else cleaning.deletable(run)
    if not parts:
        click.echo(f"{run}: nothing to delete")
        return
    cells = [[part.name, str(len(part.files)), formatting.size(part.size_bytes)] for part in parts]
    print_table(("may be deleted" if not yes else "deleted", "files", "size"), cells)
    if not yes:
        click.echo(f"nothing was deleted; hwnas runs clean {run} --yes deletes it")
