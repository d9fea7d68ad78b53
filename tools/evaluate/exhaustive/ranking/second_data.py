"""Does the ranking by a supernet hold on a second data set, CIFAR-10?

    python -m tools.evaluate.exhaustive.ranking.second_data train --work DIR [--networks 24]
    python -m tools.evaluate.exhaustive.ranking.second_data table --work DIR

``train`` takes networks of about equal latency from the table of `tools.evaluate.exhaustive`,
trains each alone on images of 32 px, trains supernets, and judges the networks with them; it
continues where it was interrupted. ``table`` writes results/second_data.md. The data set is read
from ``$HWNAS_CIFAR10`` or downloaded (`hwnas.data.array_sources`).
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import product
from pathlib import Path

import click
import msgspec
import numpy as np
import torch

from hwnas.files import append_line, read_lines
from hwnas.training.plan import one_cycle_plan
from tools.evaluate.exhaustive.problem import (
    PLAN,
    SECOND_TASK,
    TEST_IMAGES,
    TRAIN_IMAGES,
    VALID_IMAGES,
    Choices,
    Images,
    load_images,
)
from tools.evaluate.exhaustive.ranking.scores import network_logits, scores_of
from tools.evaluate.exhaustive.ranking.supernets import trained
from tools.evaluate.exhaustive.ranking.variants import VARIANTS
from tools.evaluate.exhaustive.regret import tau
from tools.evaluate.exhaustive.table import TABLE, Table, read_table
from tools.evaluate.exhaustive.trainings import Training, train_network
from tools.lib.options import seeds_option, work_option
from tools.lib.results import command, table, write_results

RUNTIME, PERCENTILE, LOW = "onnxruntime", 50, 0.89
"""The networks have ``LOW`` to 1 of this percentile of the latencies at 16 px."""
EPOCHS = 6
TRAINED_PLAN = one_cycle_plan(PLAN, EPOCHS)
STUDIED = ("one path", "unit gain")
"""Variants of `tools.evaluate.exhaustive.ranking`: residual branches that start at zero, or not."""


class Judged(msgspec.Struct, frozen=True):
    """All networks, judged with one supernet: a line of ``supernets.jsonl``."""

    variant: str
    seed: int
    cpu_s: float
    """Processor time of the training."""
    scores: dict[str, tuple[float, ...]]
    """Scores by their names, in the order of the networks."""


@click.group()
def cli() -> None:
    """Compare rankings by supernets with trainings on CIFAR-10."""


@cli.command()
@work_option
@click.option("--networks", default=24, show_default=True, type=click.IntRange(3))
@click.option("--training-seeds", default=2, show_default=True, type=click.IntRange(1))
@seeds_option(3)
def train(work: Path, networks: int, training_seeds: int, seeds: int) -> None:
    """Train the networks and the supernets, one line of a file each."""
    torch.set_num_threads(1)
    work.mkdir(parents=True, exist_ok=True)
    chosen = chosen_networks(read_table(), networks)
    images = load_images(SECOND_TASK)
    for judged in judge_all(work, chosen, seeds, images):
        click.echo(f"{judged.variant}, seed {judged.seed}: {judged.cpu_s:.0f} core-seconds")
    for line in train_all(work, chosen, training_seeds):
        click.echo(f"seed {line.seed} {line.choices}: {100 * line.test_accuracy:.2f} %")


@cli.command("table")
@work_option
def write_table(work: Path) -> None:
    """Write results/second_data.md."""
    trainings = list(read_lines(work / "trainings.jsonl", Training))
    text = second_text(trainings, list(read_lines(work / "supernets.jsonl", Judged)))
    called_as = command(__file__, "table --work DIR")
    conditions = f"torch {torch.__version__}, one thread"
    path = TABLE.with_name("second_data.md")
    title = "Ranking by supernets on a second data set"
    click.echo(write_results(path, title, called_as, *text, conditions=conditions))


def chosen_networks(known: Table, count: int) -> list[Choices]:
    """Return networks of about equal latency, drawn once."""
    ms, budget_ms = known.latency_ms[RUNTIME], known.budget_ms(RUNTIME, PERCENTILE)
    rows = np.flatnonzero((ms >= LOW * budget_ms) & (ms <= budget_ms))
    drawn = np.random.default_rng(0).choice(rows, min(count, len(rows)), replace=False)
    return [tuple(map(int, known.choices[row])) for row in sorted(drawn)]


def train_all(work: Path, chosen: Sequence[Choices], seeds: int) -> Iterator[Training]:
    """Train the networks that are missing in ``work/trainings.jsonl``, seed by seed."""
    file = work / "trainings.jsonl"
    done = {(line.choices, line.seed) for line in read_lines(file, Training)}
    for seed, choices in product(range(seeds), chosen):
        if (choices, seed) not in done:
            line = train_network(choices, seed, SECOND_TASK, TRAINED_PLAN)
            append_line(file, line)
            yield line


def judge_all(
    work: Path, chosen: Sequence[Choices], seeds: int, images: Images
) -> Iterator[Judged]:
    """Train the supernets that are missing in ``work/supernets.jsonl``, and judge the networks."""
    file = work / "supernets.jsonl"
    done = {(line.variant, line.seed) for line in read_lines(file, Judged)}
    batches = list(images.valid.in_order())
    labels = torch.cat([wanted for _, wanted in batches])
    for seed, name in product(range(seeds), STUDIED):
        if (name, seed) in done:
            continue
        *_, mark = trained(VARIANTS[name], read_table(), images.train, seed, SECOND_TASK)
        judged = [
            scores_of(network_logits(mark.supernet, choices, batches), labels) for choices in chosen
        ]
        scores = {key: tuple(round(each[key], 5) for each in judged) for key in judged[0]}
        line = Judged(name, seed, round(mark.cpu_s, 2), scores)
        append_line(file, line)
        yield line


def second_text(trainings: Sequence[Training], judged: Sequence[Judged]) -> list[str]:
    """Return the figures: the trainings, and Kendall's tau of each score with them."""
    seeds = sorted({line.seed for line in trainings})
    accuracy = {(line.choices, line.seed): line.test_accuracy for line in trainings}
    networks = sorted({line.choices for line in trainings})
    complete = [seed for seed in seeds if all((row, seed) in accuracy for row in networks)]
    if not complete or not judged:
        return ["The trainings are not complete yet."]
    rates = np.array([[100 * accuracy[row, seed] for seed in complete] for row in networks])
    truth = rates.mean(1)
    text = (
        f"{len(networks)} networks of the exhaustive space that take {LOW:.0%} to 100 % of the "
        f"{PERCENTILE}th percentile of the latencies at 16 px ({RUNTIME}), on "
        f"{TRAIN_IMAGES:,} images of CIFAR-10 at 32 px, {EPOCHS} epochs each alone, "
        f"{len(complete)} seeds, {TEST_IMAGES:,} test images: {truth.min():.1f} to "
        f"{truth.max():.1f} %. Kendall's tau of two seeds: {_seed_tau(rates)}. Supernets are those "
        f"of results/ranking.md, trained on the same images and judged on {VALID_IMAGES:,} others "
        "with the statistics of the batch. `tau`: Kendall's tau-b of the score and the mean test "
        "accuracy; `regret`: what the first network by the score loses against the best, in "
        f"points; a random one loses {truth.max() - truth.mean():.2f}. Mean ± standard deviation "
        "over supernets."
    )
    rows: list[list[object]] = []
    for name in STUDIED:
        lines = [line for line in judged if line.variant == name]
        for score in lines[0].scores if lines else ():
            values = [np.array(line.scores[score]) for line in lines]
            taus = [tau(each, truth) for each in values]
            regrets = [float(truth.max() - truth[each.argmax()]) for each in values]
            rows.append([name, score, len(lines), _spread(taus), _spread(regrets)])
    return [text, table(["variant", "score", "supernets", "tau", "regret"], rows)]


def _seed_tau(rates: np.ndarray) -> str:
    return f"{tau(rates[:, 0], rates[:, 1]):.2f}" if rates.shape[1] > 1 else "one seed only"


def _spread(values: Sequence[float]) -> str:
    spread = f" ± {np.std(values, ddof=1):.2f}" if len(values) > 1 else ""
    return f"{np.mean(values):.2f}{spread}"


if __name__ == "__main__":
    cli()
