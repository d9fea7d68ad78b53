"""Every network of a small space, trained and measured: do searches find the best of them?

    python -m tools.evaluate.exhaustive.run train   --work DIR [--seeds 3] [--processes 1]
    python -m tools.evaluate.exhaustive.run measure --work DIR
    python -m tools.evaluate.exhaustive.run table   --work DIR
    python -m tools.evaluate.exhaustive.run search  --work DIR [--seeds 3] [--method NAME]
    python -m tools.evaluate.exhaustive.run regret  --work DIR

``train`` trains all 216 networks, seed by seed (two to three core-seconds each); ``measure`` needs
a quiet machine; ``search`` runs every strategy with its supernet. All three continue where they
were interrupted. ``table`` writes results/table.json, which ``search`` and ``regret`` read, and
results/table.md; ``regret`` writes results/regret.md.
"""

from __future__ import annotations

from pathlib import Path

import click
import torch

from hwnas.files import write_json
from tools.evaluate.exhaustive.latencies import measure_all
from tools.evaluate.exhaustive.searches import METHODS, search_all, stored
from tools.evaluate.exhaustive.table import TABLE, as_table, make_table, read_table
from tools.evaluate.exhaustive.texts import regret_text, table_text
from tools.evaluate.exhaustive.trainings import train_all
from tools.lib.options import PATH, out_option, seeds_option, work_option
from tools.lib.results import command, write_results

REGRET = TABLE.with_name("regret.md")
TITLE = "All networks of a small space"
table_option = click.option(
    "--table", type=PATH, default=TABLE, show_default=True, help="Table to compare with."
)


@click.group()
def cli() -> None:
    """Compare searches on a table of all networks of a space."""


@cli.command()
@work_option
@seeds_option(3)
@click.option("--processes", default=1, show_default=True, type=click.IntRange(1))
def train(work: Path, seeds: int, processes: int) -> None:
    """Train every network with each seed; one line of trainings.jsonl each."""
    for line in train_all(work, seeds, processes):
        click.echo(f"seed {line.seed} {line.choices}: {100 * line.test_accuracy:.2f} %")


@cli.command()
@work_option
def measure(work: Path) -> None:
    """Measure every network on both runtimes; one line of latencies.jsonl each."""
    for line in measure_all(work):
        click.echo(f"{line.runtime} {line.choices}: {line.median_ms:.4f} ms ({line.clock})")


@cli.command()
@work_option
@click.option("--out", type=PATH, default=TABLE, show_default=True, help="Table to write.")
def table(work: Path, out: Path) -> None:
    """Write the table of the finished trainings and measurements, and its figures."""
    rows = make_table(work)
    write_json(out, rows)
    text = table_text(as_table(rows))
    click.echo(_write(out.with_name("table.md"), "table --work DIR", *text))


@cli.command()
@work_option
@seeds_option(3)
@click.option(
    "--method",
    "methods",
    multiple=True,
    type=click.Choice(list(METHODS)),
    default=list(METHODS),
    help="Search to run.  [default: all]",
)
@table_option
def search(work: Path, seeds: int, methods: tuple[str, ...], table: Path) -> None:
    """Run searches with their supernets; one line of searches.jsonl each."""
    for line in search_all(work, read_table(table), seeds, methods):
        name = f"seed {line.seed} {line.runtime} {line.percentile} % {line.method}"
        click.echo(f"{name}: {line.candidates[:1]} after {line.cpu_s:.0f} core-seconds")


@cli.command()
@work_option
@table_option
@out_option(REGRET)
def regret(work: Path, table: Path, out: Path) -> None:
    """Compare the searches that were run with the table, and write the figures."""
    text = regret_text(read_table(table), stored(work))
    elsewhere = "" if out == REGRET else f" --out {out.name}"
    click.echo(_write(out, f"regret --work DIR{elsewhere}", *text))


def _write(path: Path, arguments: str, *parts: str) -> str:
    conditions = f"torch {torch.__version__}, one thread a process"
    called_as = command(__file__, arguments)
    return write_results(path, f"{TITLE}: {path.stem}", called_as, *parts, conditions=conditions)


if __name__ == "__main__":
    cli()
