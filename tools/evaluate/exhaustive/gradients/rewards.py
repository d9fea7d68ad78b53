"""On how many validation images should REINFORCE compute the reward of a network?

    OMP_NUM_THREADS=1 python -m tools.evaluate.exhaustive.gradients.rewards [--seeds 3]

Trains supernets of the space on uniform paths, as a warm-up does, and judges all its networks on
all validation images, in batches of the size of an update. An update of REINFORCE draws networks
and rewards them on one batch, with the batch's own statistics; the mean of their rewards is the
baseline. Its gradient is compared with that of all networks on all images. The more images, the
better an update and the longer it takes: `per second` is the square of the signal for a second of
processor time, which adds up over updates. Writes ``results/rewards.md``.
"""

from __future__ import annotations

from collections.abc import Sequence
from statistics import fmean
from time import process_time
from typing import NamedTuple

import click
import msgspec
import numpy as np
import torch

from hwnas.latency_models.cost import cost_table
from hwnas.search.loop import run_search
from hwnas.search.proxyless.reinforce import PART_IMAGES, Reinforce
from hwnas.search.strategy import SearchContext
from hwnas.training.images.loader import Batch
from hwnas.training.seeds import derived_seed, seeded
from tools.evaluate.exhaustive.gradients.estimators import (
    Floats,
    exact_gradient,
    policy_gradients,
    summary,
)
from tools.evaluate.exhaustive.problem import Images, all_choices, load_images, space
from tools.evaluate.exhaustive.ranking.scores import all_logits
from tools.evaluate.exhaustive.searches import ARCH_LEARNING_RATE, PLAN
from tools.evaluate.exhaustive.table import TABLE
from tools.lib.options import seeds_option
from tools.lib.results import command, table, write_results

IMAGES = (16, 32, 64, 125, 250, 500, 1000)
NETWORKS, DRAWS, TIMED = 10, 400, 5
"""Networks of an update, updates drawn for the signal, and updates that are timed."""


class Point(NamedTuple):
    """Updates with rewards on some number of images, for one supernet."""

    images: int
    reward: str
    cosine: float
    """Cosine of the mean gradient with the exact gradient."""
    signal: float
    """Length of the mean gradient divided by the standard deviation of the gradient of one
    update."""
    update_s: float
    """Processor time of an update."""

    @property
    def per_second(self) -> float:
        return self.signal**2 / self.update_s


@click.command()
@seeds_option(3)
def main(seeds: int) -> None:
    """Compare rewards on different numbers of images."""
    torch.set_num_threads(1)
    images, points = load_images(), list[Point]()
    for seed in range(seeds):
        points += compared(warm_supernet(images, seed), images, seed)
        click.echo(f"{seed + 1} of {seeds} supernets done", err=True)
    rows: list[list[object]] = []
    for reward in dict.fromkeys(point.reward for point in points):
        for count in IMAGES:
            same = [each for each in points if (each.images, each.reward) == (count, reward)]
            rows.append(
                [
                    reward,
                    count,
                    f"{1e3 * fmean(each.update_s for each in same):.0f}",
                    _spread([each.cosine for each in same]),
                    _spread([each.signal for each in same]),
                    _spread([each.per_second for each in same]),
                ]
            )
    text = write_results(
        TABLE.with_name("rewards.md"),
        "Images of a reward of REINFORCE",
        f"OMP_NUM_THREADS=1 {command(__file__, f'--seeds {seeds}')}",
        f"{NETWORKS} networks an update, {PLAN.warmup_epochs} epochs of warm-up, all probabilities "
        f"equal, latency without weight; {DRAWS} draws, mean and standard deviation of {seeds} "
        "supernets. `cosine`: of the mean gradient with that of all networks on all images. "
        "`signal`: length of the mean gradient against the standard deviation of an "
        "update's. `per second`: its square for a second of processor time.",
        table(["reward", "images", "update, CPU ms", "cosine", "signal", "per second"], rows),
        conditions=f"torch {torch.__version__}, one thread",
    )
    click.echo(text)


def warm_supernet(images: Images, seed: int) -> Reinforce:
    """Return a search at the end of its warm-up."""
    torch.manual_seed(derived_seed(seed, "supernet"))
    strategy = Reinforce.begin(
        SearchContext(
            space=space(),
            costs=cost_table(space(), lambda block: block.macs / 1e6, 0.0),
            budget_ms=1.0,
            generator=seeded(seed, "paths"),
            arch_learning_rate=ARCH_LEARNING_RATE,
        )
    )
    plan = msgspec.structs.replace(PLAN, search_epochs=0)
    run_search(strategy, images.train, images.valid, plan, seed, None)
    return strategy


def compared(strategy: Reinforce, images: Images, seed: int) -> list[Point]:
    """Return the points of one supernet."""
    choices, rng = np.array(all_choices(space())), np.random.default_rng(seed)
    largest = rewards(strategy, images, PART_IMAGES)
    points: list[Point] = []
    for count in IMAGES:
        batch = next(images.valid.in_order(count))
        spent_s = update_s(strategy, batch)
        part = min(count, PART_IMAGES)
        for name, values in rewards(strategy, images, part).items():
            parts = count // part
            whole = values[:, : values.shape[1] // parts * parts]
            batches = whole.reshape(len(values), -1, parts).mean(2)
            exact = exact_gradient(choices, -largest[name].mean(1))
            drawn = policy_gradients(choices, -batches, NETWORKS, DRAWS, rng)
            line = summary(name, seed, "", drawn, exact)
            points.append(Point(count, name, line.cosine, line.signal, spent_s))
    return points


def rewards(strategy: Reinforce, images: Images, count: int) -> dict[str, Floats]:
    """Return the rewards of all networks on all whole batches of ``count`` images ``[N, B]``."""
    batches = [batch for batch in images.valid.in_order(count) if len(batch[1]) == count]
    labels = torch.cat([wanted for _, wanted in batches])
    logits = all_logits(strategy.supernet, batches)  # pyright: ignore[reportArgumentType]
    hits = (logits.argmax(2) == labels).double()
    given = logits.double().softmax(2).gather(2, labels.expand(len(logits), -1)[..., None])[..., 0]
    return {
        name: values.reshape(len(logits), -1, count).mean(2).numpy()
        for name, values in (("accuracy", hits), ("probability of the label", given))
    }


def update_s(strategy: Reinforce, batch: Batch) -> float:
    """Return the processor time of an architecture step; the parameters are restored afterwards."""
    before = strategy.arch_logits.detach().clone()
    strategy.architecture_step(batch)
    start_s = process_time()
    for _ in range(TIMED):
        strategy.architecture_step(batch)
    spent_s = (process_time() - start_s) / TIMED
    strategy.arch_logits.data.copy_(before)
    return spent_s


def _spread(values: Sequence[float]) -> str:
    spread = f" ± {np.std(values, ddof=1):.2f}" if len(values) > 1 else ""
    return f"{fmean(values):.2f}{spread}"


if __name__ == "__main__":
    main()
