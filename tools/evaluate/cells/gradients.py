"""Is the second order of DARTS worth its time, and how should its product be computed?

    OMP_NUM_THREADS=1 python -m tools.evaluate.cells.gradients [--data cifar10] [--seeds 3]

A search net is trained by DARTS (first order, as many architecture steps as weight steps). After
some steps each kind of architecture gradient is computed, for the same training and validation
batch: first order, the central difference of the paper with radius 0.01, with radius 0.1, and the
exact product by a second differentiation. They are compared with true slopes
(`tools.evaluate.cells.true_slopes`) over the one step that the second order looks ahead, or over
several steps on other batches. For random directions ``u`` the table has the correlation of
``gradient * u`` with the true slopes one step ahead, and for each gradient the true slope along it,
with unit length: how fast the loss falls if it is followed.

The cost is that of architecture steps of the strategy: processor time, and peak memory of the
process above that before the first step.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from copy import deepcopy
from pathlib import Path
from statistics import fmean, median, stdev
from time import process_time
from typing import NamedTuple

import click
import numpy as np
import psutil
import torch

from hwnas.data.datasets import load_dataset
from hwnas.files import write_json
from hwnas.latency_models.cost import cost_table
from hwnas.search.cells.darts import Darts
from hwnas.search.cells.unrolled_gradient import (
    VirtualStep,
)
from hwnas.search.registry import load_strategy
from hwnas.search.strategy import SearchContext
from hwnas.spaces.cells.space import CellSpace, cell_space
from hwnas.training.images.loader import Batch, Data, as_data
from hwnas.training.seeds import derived_seed, seeded
from tools.bench.search.memory import peak_rss_bytes, run_forked
from tools.evaluate.cells.true_slopes import KINDS, Batches, Comparison, State, compare
from tools.lib.results import command, results_folder, sections, table, write_results

LEARNING_RATE, ARCH_RATE = 0.025, 3e-4
"""The paper's learning rates of weights and of architecture parameters."""
OTHER_IMAGES = 256
"""Validation images beside those of the batch."""


def endless(data: Data, size: int, seed: int, name: str) -> Iterator[Batch]:
    """Yield batches in another order each epoch."""
    generator = seeded(seed, name)
    while True:
        for rows in torch.randperm(len(data.labels), generator=generator).split(size):
            if len(rows) == size:
                yield data.normalise(data.read(rows)), data.labels[rows]


def started(space: CellSpace, seed: int) -> Darts:
    """Return a search without a latency budget."""
    torch.manual_seed(derived_seed(seed, "supernet"))
    costs = cost_table(space, lambda block: block.macs / 1e6, 0.0)
    context = SearchContext(
        space=space,
        costs=costs,
        budget_ms=costs.largest_ms,
        generator=seeded(seed, "paths"),
        arch_learning_rate=ARCH_RATE / 0.3,
    )
    search = load_strategy("darts").begin(context)
    assert isinstance(search, Darts)
    return search


def state_of(search: Darts) -> State:
    """Return a copy of a search's state."""
    training = search.weights
    net = deepcopy(search.supernet).train()
    return State(
        net,
        {name: weight.detach().clone() for name, weight in net.named_parameters()},
        [part.detach().clone().requires_grad_() for part in search.alpha],
        VirtualStep(
            LEARNING_RATE,
            training.momentum,
            training.weight_decay,
            {name: value.clone() for name, value in training.momenta.items()},
        ),
    )


def course(
    space: CellSpace,
    images: Batches,
    points: Sequence[int],
    directions: int,
    ahead: int,
    seed: int,
) -> list[Comparison]:
    """Return the comparisons along a search by DARTS."""
    search = started(space, seed)
    rows: list[Comparison] = []
    for number in range(max(points) + 1):
        if number in points:
            rows += compare(state_of(search), number, images, directions, ahead)
            click.echo(f"seed {seed}: {number} steps", err=True)
        search.weight_step(next(images.train), LEARNING_RATE)
        search.architecture_step(next(images.valid))
    return rows


class Cost(NamedTuple):
    """Cost of an architecture step of a strategy."""

    step_s: float
    """Processor time."""
    rss_bytes: int
    """Peak memory of the process, above that before the first step."""


def cost(kind: str, space: CellSpace, batch_size: int, rounds: int) -> Cost:
    order, radius = KINDS[kind]
    search = started(space, 0)
    search.order, search.radius = order, radius or search.radius
    search._measure_curvature = False
    batch = torch.randn(batch_size, *space.input_shape), torch.arange(batch_size) % 10
    before_bytes = psutil.Process().memory_info().rss
    search.weight_step(batch, LEARNING_RATE)
    search.architecture_step(batch)
    times_s: list[float] = []
    for _ in range(rounds):
        begin_s = process_time()
        search.architecture_step(batch)
        times_s.append(process_time() - begin_s)
    return Cost(median(times_s), peak_rss_bytes() - before_bytes)


@click.command()
@click.option("--data", default="fashion-mnist-6k", show_default=True)
@click.option("--seeds", default=3, show_default=True)
@click.option("--points", default="0,20,100", show_default=True, help="Steps of the search.")
@click.option("--directions", default=24, show_default=True, help="Random directions.")
@click.option("--ahead", default=4, show_default=True, help="Steps of the longer look ahead.")
@click.option("--batch", default=32, show_default=True)
@click.option("--channels", default=4, show_default=True)
@click.option("--layers", default=3, show_default=True)
@click.option("--rounds", default=3, show_default=True, help="Timed steps of each kind.")
@click.option("--json", "out", type=click.Path(path_type=Path), help="Write the values as JSON.")
def main(
    data: str,
    seeds: int,
    points: str,
    directions: int,
    ahead: int,
    batch: int,
    channels: int,
    layers: int,
    rounds: int,
    out: Path | None,
) -> None:
    """Compare the architecture gradients of DARTS with true changes of the loss."""
    dataset = load_dataset(data)
    space = cell_space(dataset.input_shape, dataset.num_classes, channels, layers)
    costs = {kind: run_forked(cost, kind, space, batch, rounds) for kind in KINDS}
    torch.set_num_threads(1)
    train, valid = (as_data(split, dataset) for split in (dataset.train, dataset.valid))
    shuffled = valid.sample(len(valid.labels), derived_seed(0, "gradients"))
    others = shuffled._replace(
        images=shuffled.read(torch.arange(OTHER_IMAGES)), labels=shuffled.labels[:OTHER_IMAGES]
    )
    rest = torch.arange(OTHER_IMAGES, len(shuffled.labels))
    own = shuffled._replace(images=shuffled.read(rest), labels=shuffled.labels[rest])
    other = next(others.in_order(OTHER_IMAGES))
    rows: list[Comparison] = []
    for seed in range(seeds):
        images = Batches(
            endless(train, batch, seed, "train"), endless(own, batch, seed, "valid"), other
        )
        numbers = [int(point) for point in points.split(",")]
        rows += course(space, images, numbers, directions, ahead, seed)
    words = f"--data {data} --seeds {seeds} --points {points} --directions {directions}"
    sizes = f"--ahead {ahead} --batch {batch} --channels {channels} --layers {layers}"
    text = write_results(
        results_folder(__file__) / "gradients.md",
        "Architecture gradients of DARTS",
        command(__file__, f"{words} {sizes} --rounds {rounds}"),
        f"{data}: {layers} cells of {channels} channels, batch {batch}, learning rate "
        f"{LEARNING_RATE}; mean and standard deviation of {seeds} seed(s).",
        sections(
            [
                ("Cost of an architecture step", cost_table_of(costs)),
                ("Agreement with true changes of the loss", agreement_table(rows, ahead)),
                ("Slopes beyond those of the first order", paired_table(rows, ahead)),
            ]
        ),
        conditions=f"torch {torch.__version__}, one thread",
    )
    click.echo(text)
    if out is not None:
        write_json(out, {"costs": costs, "comparisons": rows})


def cost_table_of(costs: Mapping[str, Cost]) -> str:
    first = costs["first order"]
    titles = ["gradient", "CPU time, ms", "peak memory, MB"]
    return table(
        titles,
        [
            [
                kind,
                f"{1e3 * each.step_s:.0f} ({each.step_s / first.step_s:.2f})",
                f"{each.rss_bytes / 1e6:.0f} ({each.rss_bytes / first.rss_bytes:.2f})",
            ]
            for kind, each in costs.items()
        ],
    )


def agreement_table(rows: Sequence[Comparison], ahead: int) -> str:
    titles = [
        "after",
        "gradient",
        "distance from exact",
        "correlation, 1 step ahead",
        "slope along it, 1 step ahead",
        f"{ahead} steps ahead",
        "other images",
    ]
    lines: list[list[str]] = []
    for point in dict.fromkeys(row.point for row in rows):
        for kind in KINDS:
            same = [row[2:] for row in rows if (row.point, row.kind) == (point, kind)]
            columns = list(zip(*same, strict=True))
            near = [spread(values, 2) for values in columns[:2]]
            falls = [spread(values, 3) for values in columns[2:]]
            lines.append([f"{point} steps", kind, *near, *falls])
    return table(titles, lines)


def paired_table(rows: Sequence[Comparison], ahead: int) -> str:
    """Return how much faster the loss falls along each gradient than along the first order's, on
    the same batches: mean and standard error over seeds and points."""
    titles = ["gradient", "pairs", "1 step ahead", f"{ahead} steps ahead", "other images"]
    falls = {kind: [row[4:] for row in rows if row.kind == kind] for kind in KINDS}
    first, *others = falls
    lines: list[list[str]] = []
    for kind in others:
        changes = np.array(falls[kind]) - np.array(falls[first])
        errors = changes.std(0, ddof=1) / len(changes) ** 0.5 if len(changes) > 1 else [np.nan] * 3
        pairs = zip(changes.mean(0), errors, strict=True)
        lines.append([kind, str(len(changes)), *(f"{mean:+.4f} ± {sd:.4f}" for mean, sd in pairs)])
    return table(titles, lines)


def spread(values: Sequence[float], digits: int) -> str:
    """Return mean and standard deviation over seeds."""
    mean = f"{fmean(values):.{digits}f}"
    return mean if len(values) < 2 else f"{mean} ± {stdev(values):.{digits}f}"


if __name__ == "__main__":
    main()
