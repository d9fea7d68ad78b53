"""Does a data set that is larger than memory cost memory or time in search and training?

    python -m tools.bench.large_data --work /tmp/bench-large

Writes synthetic photos of 0.2 megapixels as JPEG into the work folder and packs them. Then a
process of its own trains the default network of the space ``mobile`` at 224 px, and another one
searches that space, for some hundred steps: once on all photos in the packed file, once on a few in
memory, whose peak memory is that of the steps alone. Writes ``results/large_data.md``.
"""

from __future__ import annotations

import multiprocessing
import os
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import NamedTuple

import click
import torch

from hwnas.data.datasets import Dataset, load_dataset, pack_dataset
from hwnas.data.photos import tiers
from hwnas.files import read_lines
from hwnas.latency_models.cost import cost_table
from hwnas.nn.build import build
from hwnas.processes import cores
from hwnas.search.loop import SearchSpeed, run_search
from hwnas.search.plan import SearchFiles, SearchPlan
from hwnas.search.proxyless.gradient import ProxylessGradient
from hwnas.search.strategy import SearchContext
from hwnas.spaces.mobile.space import mobile_space
from hwnas.specialize.setup.augmentation import default_augmentation
from hwnas.training.compute import Compute, peak_bytes
from hwnas.training.images.loader import Data, as_data
from hwnas.training.log import EpochLog
from hwnas.training.loop import train
from hwnas.training.plan import TrainingPlan
from tools.bench.data import SHAPE, folder_bytes, write_photos
from tools.lib.options import out_option, work_option
from tools.lib.results import command, results_folder, table, write_results

RESULTS = results_folder(__file__) / "large_data.md"
MAX_EXTRA_BYTES, MAX_WAITING = 3e9, 0.05
"""The goals: memory beyond that of the steps, and share of the time spent waiting for a batch."""
SMALL = 64
"""Photos of the data set in memory."""


class Cost(NamedTuple):
    """Memory and time that a process used."""

    images_per_s: float
    waiting: float
    peak_bytes: int


@click.command()
@work_option
@click.option("--images", default=20_000, show_default=True, type=click.IntRange(200))
@click.option("--steps", default=300, show_default=True, type=click.IntRange(2))
@click.option("--batch-size", default=8, show_default=True, type=click.IntRange(2))
@out_option(RESULTS)
def main(work: Path, images: int, steps: int, batch_size: int, out: Path) -> None:
    """Measure memory and waiting of search and training on many photos."""
    os.environ["HWNAS_HOME"] = str(work / "home")
    folder, small = work / f"photos-{images}", work / f"photos-{SMALL}"
    write_photos(folder, images)
    write_photos(small, SMALL)
    pack_dataset(str(folder), SHAPE[1], None)
    rows: list[tuple[str | float, ...]] = []
    for name, function in (("training", training_cost), ("search", search_cost)):
        packed = in_process(function, folder, steps, batch_size)
        alone = in_process(function, small, 4, batch_size)
        extra = packed.peak_bytes - alone.peak_bytes
        rows.append(
            (name, packed.images_per_s, 100 * packed.waiting, packed.peak_bytes / 1e9, extra / 1e9)
        )
    text = write_results(
        out,
        "Data larger than memory",
        command(
            __file__,
            "--work DIR",
            f"--images {images}",
            f"--steps {steps}",
            f"--batch-size {batch_size}",
        ),
        f"{images} synthetic JPEG photos of 0.2 megapixels ({folder_bytes(folder) / 1e9:.1f} GB of "
        f"files), packed; {steps} steps in batches of {batch_size} at 224 px on {cores()} threads. "
        f"Goals: at most {100 * MAX_WAITING:.0f} % of the time without a batch, at most "
        f"{MAX_EXTRA_BYTES / 1e9:.0f} GB more than the same steps on {SMALL} photos in memory.",
        table(("", "img/s", "waiting %", "peak GB", "more than the steps alone GB"), rows),
        conditions=f"torch {torch.__version__}, load average {os.getloadavg()[0]:.1f}",
    )
    click.echo(text)


def in_process(function, folder: Path, steps: int, batch_size: int) -> Cost:
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(1, mp_context=context) as pool:
        return pool.submit(function, folder, steps, batch_size).result()


def training_cost(folder: Path, steps: int, batch_size: int) -> Cost:
    """Train the default network for an epoch of ``steps``."""
    dataset, data, compute = _opened(folder, steps * batch_size)
    space = mobile_space(dataset.input_shape, dataset.num_classes)
    network = compute.place(build(space.architecture(space.default)))
    augmentation = default_augmentation(dataset.input_shape, len(data.labels), None)
    plan = TrainingPlan(epochs=1, batch_size=batch_size, augmentation=augmentation)
    logs: list[EpochLog] = []
    train(network, data, plan, 0, on_epoch=logs.append)
    return Cost(logs[0].images_per_s, logs[0].waiting, peak_bytes("cpu"))


def search_cost(folder: Path, steps: int, batch_size: int) -> Cost:
    """Search for an epoch of ``steps``, with an architecture step after every fifth."""
    dataset, data, compute = _opened(folder, steps * batch_size)
    space = mobile_space(dataset.input_shape, dataset.num_classes)
    costs = cost_table(space, lambda block: 1e-9 * block.macs, 0.0)
    strategy = ProxylessGradient.begin(
        SearchContext(
            space=space,
            costs=costs,
            budget_ms=costs.network_ms(space.default.choices),
            generator=torch.Generator(),
            compute=compute,
        )
    )
    augmentation = default_augmentation(dataset.input_shape, len(data.labels), None)
    plan = SearchPlan(0, 1, batch_size, weight_steps=5, augmentation=augmentation)
    with TemporaryDirectory() as scratch:
        files = SearchFiles(Path(scratch) / "search.safetensors", Path(scratch) / "log.jsonl")
        run_search(strategy, data, as_data(dataset.valid, dataset, compute), plan, 0, files)
        [speed] = read_lines(files.speed, SearchSpeed)
    return Cost(speed.images_per_s, speed.waiting, peak_bytes("cpu"))


def _opened(folder: Path, images: int) -> tuple[Dataset, Data, Compute]:
    """Return a data set, the ``images`` of its training split that an epoch shows, and a CPU."""
    compute = Compute(threads=cores())
    compute.start()
    if folder.name != f"photos-{SMALL}":
        tiers.MEMORY_SHARE = 0.0
    dataset = load_dataset(str(folder), input_shape=SHAPE)
    rows = torch.randperm(len(dataset.train.labels), generator=torch.Generator().manual_seed(0))
    split = dataset.train.subset(rows[:images].numpy())
    return dataset, as_data(split, dataset, compute), compute


if __name__ == "__main__":
    main()
