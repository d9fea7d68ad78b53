"""Which score on the validation photos picks the network that is better on other photos?

    python -m tools.evaluate.pretrained.criteria --work DIR [--set flowers] [--splits 400]

Computes the logits of the networks that the runs of `tools.evaluate.pretrained.run` in DIR trained,
on validation and test photos together. Half of these photos, drawn at random, choose between two
networks by each score; the other half tells by how many points of accuracy the chosen network is
better than the other. Writes ``results/criteria.md``.
"""

from __future__ import annotations

from collections.abc import Iterator
from itertools import combinations
from pathlib import Path
from typing import Any, NamedTuple

import click
import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn.functional import cross_entropy, one_hot

from hwnas.data.datasets import load_dataset
from hwnas.files import read_json
from hwnas.nn.build import build
from hwnas.training.checkpoint import load_weights
from hwnas.training.evaluation import best_scale
from hwnas.training.images.loader import as_data
from hwnas.training.job import WEIGHTS, TrainingJob, read_result
from tools.lib.options import work_option
from tools.lib.results import command, results_folder, table, write_results

MAX_GAP = 0.05
"""Pairs whose accuracies differ by more are left out: any score chooses the better one."""
SCORES = ("accuracy", "cross-entropy", "Brier score", "probability of the label")

Values = NDArray[np.floating[Any]]


class Scores(NamedTuple):
    """A network's scores of each photo of a set; higher is better."""

    data: str
    values: dict[str, Values]


@click.command()
@work_option
@click.option("--set", "sets", multiple=True, default=("flowers", "signs"), show_default=True)
@click.option("--splits", default=400, show_default=True, help="Random halves of each pair.")
def main(work: Path, sets: tuple[str, ...], splits: int) -> None:
    """Compare scores by the accuracy of the networks that they choose."""
    torch.set_num_threads(1)
    networks = [scores for name in sets for scores in networks_of(work / name, name)]
    gains = {score: list[float]() for score in (*SCORES, f"{SCORES[-1]}, within 2 errors")}
    pairs = 0
    for first, second in combinations(networks, 2):
        if first.data == second.data and close(first, second):
            pairs += 1
            for score, values in gains_of(first, second, splits).items():
                gains[score] += values
    if not pairs:
        raise click.ClickException(f"{work}: no two trained networks of one set to choose from")
    lines = [
        [score, f"{100 * np.mean(values):.2f}", f"{100 * np.mean(np.array(values) > 0):.0f}"]
        for score, values in gains.items()
    ]
    titles = ["score", "gain over a random choice, points", "better network chosen, %"]
    sizes = {name: sum(n.data == name for n in networks) for name in sets}
    note = (
        f"{pairs} pairs of {', '.join(f'{n} networks ({name})' for name, n in sizes.items())} that "
        f"differ by at most {100 * MAX_GAP:.0f} points, {splits} random halves each. The last row "
        "leaves out networks that are less accurate by more than two standard errors. Pairs share "
        "networks and photos, so that differences of a tenth of a point mean little."
    )
    called_as = command(__file__, "--work DIR", *(f"--set {name}" for name in sets))
    path = results_folder(__file__) / "criteria.md"
    title = "Scores that choose between networks"
    click.echo(write_results(path, title, called_as, note, table(titles, lines)))


def networks_of(folder: Path, data: str) -> Iterator[Scores]:
    """Yield the scores of each network that a run in ``folder`` trained, once for each seed."""
    seen: set[tuple[str, str]] = set()
    for path in sorted(folder.glob("cut-*/scenarios/*/training/*")):
        key = path.parents[3].name, path.name
        if key not in seen and read_result(path) is not None:
            seen.add(key)
            yield Scores(data, scores_of(*logits_of(path)))


@torch.no_grad()
def logits_of(folder: Path, mirrored: bool = False) -> tuple[Tensor, Tensor]:
    """Return logits and labels of the validation and test photos of a finished training, or of
    their mirror images."""
    job = read_json(folder / "job.json", TrainingJob)
    network = build(job.architecture)
    load_weights(network, folder / WEIGHTS)
    network.eval()
    dataset = load_dataset(job.data, input_shape=job.architecture.input_shape)
    if job.normalisation is not None:
        dataset = dataset.normalised_by(job.normalisation.mean, job.normalisation.std)
    batches = [
        (network(images.flip(3) if mirrored else images), labels)
        for part in (dataset.valid, dataset.test)
        for images, labels in as_data(part, dataset).in_order()
    ]
    return torch.cat([logits for logits, _ in batches]), torch.cat([each for _, each in batches])


def scores_of(logits: Tensor, labels: Tensor) -> dict[str, Values]:
    """Return the scores of each photo by ``logits [N, classes]`` and ``labels [N]``."""
    scaled = best_scale(logits, labels) * logits.double()
    probabilities = scaled.softmax(1)
    of_label = probabilities.gather(1, labels[:, None])[:, 0]
    distance = (probabilities - one_hot(labels, logits.shape[1])).square().sum(1)
    values = (
        (logits.argmax(1) == labels).double(),
        -cross_entropy(scaled, labels, reduction="none"),
        -distance,
        of_label,
    )
    return {score: each.numpy() for score, each in zip(SCORES, values, strict=True)}


def close(first: Scores, second: Scores) -> bool:
    """Whether two networks differ by at most `MAX_GAP` in accuracy on all photos."""
    accuracies = [each.values[SCORES[0]].mean() for each in (first, second)]
    return abs(accuracies[0] - accuracies[1]) <= MAX_GAP


def gains_of(first: Scores, second: Scores, splits: int) -> dict[str, list[float]]:
    """Return, for each score and split, the advantage on the second half of the network that the
    score chooses on the first half."""
    rng = np.random.default_rng(0)
    difference = {score: first.values[score] - second.values[score] for score in SCORES}
    hits = difference[SCORES[0]]
    gains: dict[str, list[float]] = {}
    for _ in range(splits):
        order = rng.permutation(len(hits))
        choosing, judging = np.array_split(order, 2)
        advantage = float(hits[judging].mean())
        means = {score: float(values[choosing].mean()) for score, values in difference.items()}
        highest = max(each.values[SCORES[0]][choosing].mean() for each in (first, second))
        error = (highest * (1 - highest) / len(choosing)) ** 0.5
        accurate, likely = means[SCORES[0]], means[SCORES[-1]]
        means[f"{SCORES[-1]}, within 2 errors"] = likely if abs(accurate) <= 2 * error else accurate
        for score, mean in means.items():
            gains.setdefault(score, []).append(float(np.sign(mean)) * advantage)
    return gains


if __name__ == "__main__":
    main()
