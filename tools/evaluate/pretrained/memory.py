"""How much memory do the steps of a run that cuts a trained network take?

    python -m tools.evaluate.pretrained.memory --photos DIR [--size 160]

Does a short piece of each step of `hwnas specialize --from efficientnet_lite0` in one process, as
large as in a run, and reads the largest resident memory within it: Linux sets ``VmHWM`` back by
``/proc/self/clear_refs``. Memory that was freed stays with the process, as in a run, so that a step
is never below the one before it. Writes ``results/memory.md``.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import click
import torch
from msgspec.structs import replace

from hwnas.data.datasets import Dataset, load_dataset
from hwnas.nn.elastic.member import ClosedForms
from hwnas.nn.elastic.statistics import collect, elastic_places
from hwnas.nn.memory import image_bytes
from hwnas.pretrained.load import load_source
from hwnas.processes import own_peak_bytes
from hwnas.search.elastic.divergence import CHUNK_IMAGES, Divergence
from hwnas.spaces.elastic.space import elastic_space
from hwnas.specialize.setup.augmentation import default_augmentation
from hwnas.specialize.setup.batch_size import in_parts
from hwnas.specialize.setup.work.tuning import BATCH_SIZE, tuning_plan
from hwnas.training.compute import keep_freed_memory
from hwnas.training.images.loader import Data, as_data
from hwnas.training.loop import train
from hwnas.training.plan import TrainingPlan
from tools.evaluate.pretrained.runs import NETWORK
from tools.lib.options import PATH
from tools.lib.results import command, results_folder, table, write_results

STATISTICS_BATCH = 32
"""As in the strategy."""


@click.command()
@click.option("--photos", type=PATH, required=True, help="Folder of a folder for each class.")
@click.option("--size", default=160, show_default=True, help="Pixels.")
def main(photos: Path, size: int) -> None:
    """Print the peak memory of each step."""
    torch.set_num_threads(1)
    keep_freed_memory()
    lines = [[step, f"{peak / 1e9:.2f}"] for step, peak in peaks(photos, size)]
    called_as = command(__file__, f"--photos DIR/{photos.name} --size {size}")
    note = f"Largest resident memory of the process within a step, batches of {BATCH_SIZE} images."
    path = results_folder(__file__) / "memory.md"
    text = table(["step", "peak, GB"], lines)
    click.echo(write_results(path, "Memory of the steps of a run", called_as, note, text))


def peaks(photos: Path, size: int) -> Iterator[tuple[str, int]]:
    """Yield the steps and their peak memory in bytes."""
    dataset = load_dataset(str(photos), input_shape=(3, size, size))
    source = load_source(NETWORK).at((3, size, size), dataset.classes)
    dataset = dataset.normalised_by(source.preprocessing.mean, source.preprocessing.std)
    images = as_data(dataset.train, dataset)
    network, teacher = source.network(), source.network()
    yield "imports, photos and two networks", _peak()

    known = torch.cat([batch for batch, _ in images.sample(2 * STATISTICS_BATCH, 0).in_order()])
    space = elastic_space(NETWORK, source.architecture)
    places = [place for place in elastic_places(network) if place in space.elastic]
    statistics = collect(network, known.split(STATISTICS_BATCH), places)
    yield "statistics for the closed forms", _peak()

    forms = ClosedForms(network, source.architecture.blocks, statistics)
    divergence = Divergence(space, forms, known[:CHUNK_IMAGES])
    divergence.increments(space.default.choices[0])
    yield "effect of each cut", _peak()

    divergence.refitted(space.genotype(0, [len(space.cuts[place]) - 1 for place in space.elastic]))
    yield "a member solved from front to back", _peak()

    whole = _plan(dataset, images)
    parts = in_parts(whole, image_bytes(source.architecture), "cpu")
    for plan in (parts, whole):
        name = "batches in parts" if plan is parts else "whole batches, as before"
        train(network, images, plan, 0)
        yield f"tuning, {name}", _peak()
        train(network, images, plan, 0, teacher=teacher)
        yield f"training with a teacher, {name}", _peak()


def _plan(dataset: Dataset, images: Data) -> TrainingPlan:
    """Return the plan of a tuning of one epoch."""
    augmentation = default_augmentation(dataset.input_shape, len(images.labels), None)
    plan = tuning_plan(images.labels.numpy(), "trial", augmentation)
    return replace(plan, epochs=1, batch_size=BATCH_SIZE, patience=0, probe=False)


def _peak() -> int:
    """Return the peak since the last call, and reset it."""
    peak = own_peak_bytes()
    Path("/proc/self/clear_refs").write_text("5")
    return peak


if __name__ == "__main__":
    main()
