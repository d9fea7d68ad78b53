"""What decides how well a supernet ranks networks? Variants of its training, one by one.

    python -m tools.evaluate.exhaustive.ranking.run train --work DIR [--seeds 3] [--variant NAME]
    python -m tools.evaluate.exhaustive.ranking.run table --work DIR

``train`` trains the supernet of each variant and judges all 216 networks with it in several ways
(about a core-minute each), and continues where it was interrupted; ``table`` writes
results/ranking.md.
"""

from __future__ import annotations

from collections.abc import Iterator
from itertools import product
from pathlib import Path

import click
import torch

from hwnas.files import append_line, read_lines
from tools.evaluate.exhaustive.problem import load_images
from tools.evaluate.exhaustive.ranking.figures import ranking
from tools.evaluate.exhaustive.ranking.scores import judge
from tools.evaluate.exhaustive.ranking.supernets import trained
from tools.evaluate.exhaustive.ranking.texts import SCORE, Judged, ranking_text
from tools.evaluate.exhaustive.ranking.variants import VARIANTS
from tools.evaluate.exhaustive.table import TABLE, read_table
from tools.lib.options import seeds_option, work_option
from tools.lib.results import command, write_results

TITLE = "Ranking of all networks by supernets"


@click.group()
def cli() -> None:
    """Compare rankings by supernets with the table of all networks."""


@cli.command()
@work_option
@seeds_option(3)
@click.option(
    "--variant",
    "names",
    multiple=True,
    type=click.Choice(list(VARIANTS)),
    default=list(VARIANTS),
    help="Variant to train.  [default: all]",
)
def train(work: Path, seeds: int, names: tuple[str, ...]) -> None:
    """Train supernets; one line of ranking.jsonl for each judgement."""
    torch.set_num_threads(1)
    known = read_table()
    for line in train_all(work, seeds, names):
        for name in ("accuracy, 1000 images", "label probability as it is, 256 images", SCORE):
            figures = ranking(known, line.scores[name])
            text = " ".join(f"{value:5.2f}" for value in figures)
            click.echo(f"{line.variant}, seed {line.seed}, epoch {line.epoch}: {text} ({name})")


def train_all(work: Path, seeds: int, names: tuple[str, ...]) -> Iterator[Judged]:
    """Train the supernets that are missing in ``work/ranking.jsonl``, seed by seed; yield each
    judgement."""
    file = work / "ranking.jsonl"
    work.mkdir(parents=True, exist_ok=True)
    lines = read_lines(file, Judged)
    done = {(line.variant, line.seed, line.epoch) for line in lines}
    images, known = load_images(), read_table()
    for seed, name in product(range(seeds), names):
        variant = VARIANTS[name]
        if (name, seed, variant.epochs) in done:
            continue
        for mark in trained(variant, known, images.train, seed):
            scores = judge(mark.supernet, images, variant.statistics)
            line = Judged(name, seed, mark.epoch, round(mark.cpu_s, 2), scores)
            append_line(file, line)
            yield line


@cli.command()
@work_option
def table(work: Path) -> None:
    """Write results/ranking.md."""
    text = ranking_text(read_table(), list(read_lines(work / "ranking.jsonl", Judged)))
    conditions = f"torch {torch.__version__}, one thread"
    called_as = command(__file__, "table --work DIR")
    path = TABLE.with_name("ranking.md")
    click.echo(write_results(path, TITLE, called_as, *text, conditions=conditions))


if __name__ == "__main__":
    cli()
