"""How many images a second does each tier of a data set give, on one core?

    OMP_NUM_THREADS=1 python -m tools.bench.data --work /tmp/bench-data

Writes synthetic photos of 0.2 megapixels as JPEG into the work folder, then reads random crops of
224 px of them from every tier, each in a process of its own. Writes ``results/data.md``.
"""

from __future__ import annotations

import multiprocessing
import os
import resource
import shutil
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from time import perf_counter
from typing import NamedTuple, TypeVar

import click
import numpy as np
import PIL
from numpy.typing import NDArray
from PIL import Image

from hwnas.data.datasets import Dataset, load_dataset, pack_dataset
from hwnas.data.photos import packing, tiers
from hwnas.processes import cores
from tools.lib.options import out_option, work_option
from tools.lib.results import command, results_folder, table, write_results

RESULTS = results_folder(__file__) / "data.md"
T = TypeVar("T")
SHAPE = (3, 224, 224)
WIDTH, HEIGHT, QUALITY = 500, 420, 90
BATCH_IMAGES = 64
TIERS = {"memory": "", "packed": "500", "files": ""}
"""Tiers with the rate to reach."""


class Rates(NamedTuple):
    """Measurements of one process; img/s are images a second on one core."""

    open_s: float
    crops_img_s: float
    centres_img_s: float
    peak_bytes: int
    opened_bytes: int
    """Peak memory when the data set is open, before a crop is read."""


@click.command()
@work_option
@click.option("--images", default=4_000, show_default=True, type=click.IntRange(200))
@out_option(RESULTS)
def main(work: Path, images: int, out: Path) -> None:
    """Measure images a second and peak memory of each tier of a data set."""
    os.environ["HWNAS_HOME"] = str(work / "home")
    folder = work / f"photos-{images}"
    write_photos(folder, images)
    load = os.getloadavg()[0]
    shutil.rmtree(work / "home", ignore_errors=True)
    rates = {tier: in_process(measure, tier, folder) for tier in ("memory", "files")}
    packed_img_s = in_process(pack, "packed", folder)
    rates["packed"] = in_process(measure, "packed", folder)
    text = write_results(
        out,
        "Tiers of a data set",
        "OMP_NUM_THREADS=1 " + command(__file__, "--work DIR", f"--images {images}"),
        f"{images} synthetic JPEG photos of {WIDTH} x {HEIGHT} px, "
        f"{folder_bytes(folder) / images / 1e3:.0f} kB each; crops of 8 to 100 % of the area, "
        f"resized to 224 px, in batches of {BATCH_IMAGES}; one process on one core, files in the "
        "disk cache.",
        table(
            (
                "tier",
                "crops img/s",
                "goal",
                "centres img/s",
                "opening s",
                "peak MB",
                "peak of opening MB",
            ),
            [
                (
                    tier,
                    rates[tier].crops_img_s,
                    goal,
                    rates[tier].centres_img_s,
                    rates[tier].open_s,
                    rates[tier].peak_bytes / 1e6,
                    rates[tier].opened_bytes / 1e6,
                )
                for tier, goal in TIERS.items()
            ],
        ),
        f"Packing: {packed_img_s:.0f} img/s on one core.",
        conditions=f"Pillow {PIL.__version__}, load average {load:.1f} on {cores()} cores",
    )
    click.echo(text)


def write_photos(folder: Path, count: int) -> None:
    """Write photos of clouds of colour with a little noise, in two classes."""
    for row in range(count):
        file = folder / f"class-{row % 2}" / f"{row:06}.jpg"
        if not file.exists():
            file.parent.mkdir(parents=True, exist_ok=True)
            photo(row).save(file, quality=QUALITY)


def photo(seed: int) -> Image.Image:
    rng = np.random.default_rng(seed)
    coarse = Image.fromarray(rng.integers(0, 256, (24, 28, 3), dtype=np.uint8))
    clouds = np.asarray(coarse.resize((WIDTH, HEIGHT), Image.Resampling.BICUBIC), dtype=np.int16)
    noise = rng.integers(-12, 13, (HEIGHT, WIDTH, 1), dtype=np.int16)
    return Image.fromarray((clouds + noise).clip(0, 255).astype(np.uint8))


def in_process(function: Callable[[str, Path], T], tier: str, folder: Path) -> T:
    """Run a function in a fresh process on one core."""
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(1, mp_context=context) as pool:
        return pool.submit(function, tier, folder).result()


def load(tier: str, folder: Path) -> Dataset:
    os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})
    if tier != "memory":
        tiers.MEMORY_SHARE = 0.0
    if tier == "files":
        packing.SPARE_BYTES = 1 << 60
    return load_dataset(str(folder), input_shape=SHAPE)


def pack(tier: str, folder: Path) -> float:
    """Return the photos packed a second."""
    os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})
    start = perf_counter()
    pack_dataset(str(folder), SHAPE[1], None)
    return sum(1 for _ in folder.rglob("*.jpg")) / (perf_counter() - start)


def measure(tier: str, folder: Path) -> Rates:
    start = perf_counter()
    dataset = load(tier, folder)
    open_s, opened_bytes = perf_counter() - start, peak_bytes()
    images = dataset.train.images
    assert not isinstance(images, np.ndarray)
    rng = np.random.default_rng(0)
    order = rng.permutation(len(images))
    if tier == "files":
        order = order[:1_000]
    batches = [order[first : first + BATCH_IMAGES] for first in range(0, len(order), BATCH_IMAGES)]
    boxes = [random_boxes(rng, images.sizes[batch]) for batch in batches]
    start = perf_counter()
    for batch, box in zip(batches, boxes, strict=True):
        images.crops(batch, box)
    crops_s = perf_counter() - start
    start = perf_counter()
    for batch in batches:
        images[batch]
    centres_s = perf_counter() - start
    return Rates(open_s, len(order) / crops_s, len(order) / centres_s, peak_bytes(), opened_bytes)


def random_boxes(rng: np.random.Generator, sizes: NDArray[np.int32]) -> NDArray[np.float32]:
    """Return boxes of 8 to 100 % of the area and of aspect ratios 3:4 to 4:3, as shares."""
    area = rng.uniform(0.08, 1, len(sizes)) * sizes.prod(axis=1)
    aspect = np.exp(rng.uniform(np.log(3 / 4), np.log(4 / 3), len(sizes)))
    sides = np.stack([np.sqrt(area * aspect), np.sqrt(area / aspect)], axis=1)  # width, height
    sides = np.minimum(sides / sizes[:, ::-1], 1)
    corner = rng.uniform(size=(len(sizes), 2)) * (1 - sides)
    return np.concatenate([corner, corner + sides], axis=1).astype(np.float32)


def peak_bytes() -> int:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


def folder_bytes(folder: Path) -> int:
    return sum(file.stat().st_size for file in folder.rglob("*.jpg"))


if __name__ == "__main__":
    main()
