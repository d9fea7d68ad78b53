"""Does a short sandwich training of the members pay, before one of them is chosen and trained?

    python -m tools.evaluate.pretrained.sandwich --photos DIR [--images 600] [--size 96]

Tunes EfficientNet-Lite0 on photos, as `hwnas specialize --from` does, and takes members of about 50
and 35 % of its MACs with their weights in closed form. A sandwich step trains all options of the
blocks together (Yu et al., "BigNAS", ECCV 2020, arXiv:2003.11142): the whole network learns the
labels and the tuned network's answers, three members near the budgets learn the whole network's
answers for the same images. Then the members are trained as a run trains them, from the closed
form, from the sandwich, and from the closed form for longer: as long as sandwich and training
together. Writes ``results/sandwich.md``.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from statistics import fmean
from time import process_time
from typing import NamedTuple

import click
import numpy as np
import torch
import torch.nn.functional as F
from msgspec.structs import replace
from scipy.stats import kendalltau
from torch import Tensor, nn

from hwnas.architecture.architecture import Architecture, Genotype
from hwnas.architecture.block import Block
from hwnas.data.datasets import Dataset, load_dataset
from hwnas.latency_models.cost import NetworkCosts
from hwnas.nn.blocks.table import block_module
from hwnas.nn.build import Network, build
from hwnas.nn.elastic.member import ClosedForms
from hwnas.nn.elastic.statistics import collect, elastic_places
from hwnas.nn.network import set_norm_eps
from hwnas.nn.resized import Resized, resized
from hwnas.pretrained.load import load_source
from hwnas.search.elastic.divergence import Divergence
from hwnas.search.elastic.shortlist import random_members, shortlist
from hwnas.search.elastic.strategy import DIVERGENCE_IMAGES, STATISTICS_IMAGES
from hwnas.spaces.elastic.space import ElasticSpace, elastic_space
from hwnas.specialize.setup.augmentation import default_augmentation
from hwnas.specialize.setup.work.cut import longer, member_plan
from hwnas.specialize.setup.work.minutes import Epochs
from hwnas.specialize.setup.work.tuning import tuning_plan
from hwnas.training.compute import keep_freed_memory
from hwnas.training.evaluation import accuracy
from hwnas.training.images.batches import Batches
from hwnas.training.images.loader import Data, as_data
from hwnas.training.loop import train
from hwnas.training.losses import distillation, task_loss
from hwnas.training.plan import TrainingPlan, learning_rate
from tools.evaluate.pretrained.runs import NETWORK
from tools.lib.options import PATH
from tools.lib.results import command, results_folder, table, write_results

PERCENTS = 50, 35
WINDOW = 0.9, 1.0
"""MACs of the members, as shares of the budget."""
STEP_MEMBERS = 3
"""Members of a step, beside the whole network."""
RATE_SHARE = 0.3
"""Learning rate of the sandwich, as a share of the tuning's."""


class Setting(NamedTuple):
    """The tuned network, what is known of its cuts, and the photos."""

    tuned: Network
    divergence: Divergence
    costs: NetworkCosts
    increments: list[list[float]]
    train: Data
    valid: Data
    test: Data
    plan: TrainingPlan
    """Plan of the tuning."""

    @property
    def space(self) -> ElasticSpace:
        return self.divergence.space


class Options(nn.Module):
    """All options of all blocks, each with weights of its own that begin in closed form."""

    def __init__(self, space: ElasticSpace, forms: ClosedForms) -> None:
        super().__init__()
        self.space = space
        self.places = nn.ModuleList(
            nn.ModuleList(
                _module(space.block(0, place, candidate), forms, place)
                for candidate in range(len(cuts))
            )
            for place, cuts in enumerate(space.cuts)
        )
        set_norm_eps(self, space.original.norm_eps)

    def forward(self, images: Tensor, genotype: Genotype) -> Tensor:
        features = resized(images, self.space.sizes[genotype.choices[0]])
        for module in self._modules_of(genotype):
            features = module(features)
        return features

    def weights(self, genotype: Genotype) -> dict[str, Tensor]:
        """Return the state dict of a member."""
        return {
            f"blocks.{place}.{name}": value
            for place, module in enumerate(self._modules_of(genotype))
            for name, value in module.state_dict().items()
        }

    def _modules_of(self, genotype: Genotype) -> Iterator[nn.Module]:
        choices = dict(zip(self.space.elastic, genotype.choices[1:], strict=True))
        for place, options in enumerate(self.places):
            assert isinstance(options, nn.ModuleList)
            yield options[choices.get(place, 0)]


@click.command()
@click.option("--photos", type=PATH, required=True, help="Folder of a folder for each class.")
@click.option("--images", default=600, show_default=True, help="Training photos.")
@click.option("--size", default=96, show_default=True, help="Pixels.")
@click.option("--epochs", default=2, show_default=True, help="Of the sandwich training.")
@click.option("--members", default=4, show_default=True, help="Of each budget; half are random.")
@click.option("--seed", default=0, show_default=True)
def main(photos: Path, images: int, size: int, epochs: int, members: int, seed: int) -> None:
    """Compare members with and without a sandwich training before theirs."""
    torch.set_num_threads(1)
    keep_freed_memory()
    setting, tuning_s = tuned(photos, images, size, seed)
    start = process_time()
    options = Options(setting.space, setting.divergence.forms)
    sandwich(options, setting, epochs, seed)
    sandwich_s = process_time() - start
    lines: list[list[object]] = []
    for percent in PERCENTS:
        chosen = members_of(setting, percent, members, seed)
        rows = [compared(setting, options, each, sandwich_s, seed) for each in chosen]
        lines += summary(percent, rows)
    whole = [accuracy(setting.tuned, data) for data in (setting.valid, setting.test)]
    note = (
        f"EfficientNet-Lite0 tuned on {len(setting.train.labels)} photos ({photos.name}) at {size} "
        f"px in {tuning_s:.0f} s: {whole[0]:.1%} of {len(setting.valid.labels)} validation and "
        f"{whole[1]:.1%} of {len(setting.test.labels)} test photos. The sandwich training of "
        f"{epochs} epochs took {sandwich_s:.0f} s (processor seconds of one core). Members of a "
        f"budget: {members}, of which half are drawn at random; accuracies in percent, mean over "
        "them. tau: rank correlation of the divergence before the training with the test accuracy "
        "after it from the closed form."
    )
    titles = ["MACs, %", "start", "epochs", "seconds", "valid before", "valid after", "test after"]
    titles += ["divergence before", "tau"]
    called_as = command(
        __file__,
        f"--photos DIR/{photos.name} --images {images} --size {size} --epochs {epochs}",
        f"--members {members} --seed {seed}",
    )
    path = results_folder(__file__) / "sandwich.md"
    title = "Sandwich training before the members' own"
    click.echo(write_results(path, title, called_as, note, table(titles, lines)))


def tuned(photos: Path, images: int, size: int, seed: int) -> tuple[Setting, float]:
    """Tune the network; return it with the processor time that this took."""
    dataset = load_dataset(str(photos), input_shape=(3, size, size))
    source = load_source(NETWORK).at((3, size, size), dataset.classes)
    dataset = dataset.normalised_by(source.preprocessing.mean, source.preprocessing.std)
    sample = as_data(dataset.train, dataset).sample(images, seed)
    valid, test = (as_data(part, dataset) for part in (dataset.valid, dataset.test))
    network, plan = source.network(), tuning_plan_of(sample, dataset)
    start = process_time()
    train(network, sample, plan, seed, valid=valid)
    tuning_s = process_time() - start
    space = elastic_space(NETWORK, source.architecture)
    known = torch.cat([batch for batch, _ in sample.sample(STATISTICS_IMAGES, seed).in_order()])
    places = [place for place in elastic_places(network) if place in space.elastic]
    statistics = collect(network.eval(), known.split(32), places, seed=seed)
    forms = ClosedForms(network, source.architecture.blocks, statistics)
    divergence = Divergence(space, forms, known[:DIVERGENCE_IMAGES])
    increments = divergence.increments(space.default.choices[0])
    setting = Setting(network, divergence, costs_of(space), increments, sample, valid, test, plan)
    return setting, tuning_s


def tuning_plan_of(sample: Data, dataset: Dataset) -> TrainingPlan:
    labels = sample.labels.numpy()
    augmentation = default_augmentation(dataset.input_shape, len(labels), None)
    return tuning_plan(labels, "trial", augmentation)


def costs_of(space: ElasticSpace) -> NetworkCosts:
    """Return costs that are the MACs in millions."""
    return NetworkCosts(space, lambda blocks: {b: b.macs / 1e6 for b in blocks}, 0.0)


def members_of(setting: Setting, percent: int, count: int, seed: int) -> list[Genotype]:
    """Return members of a budget: those whose outputs change least, and random ones."""
    low, high = (share * percent / 100 * setting.costs.largest_ms for share in WINDOW)
    space, half = setting.space, count // 2
    listed = shortlist(space, setting.costs, setting.increments, low, high, 2, seed)
    cut = [member for member in dict.fromkeys(listed) if any(member.choices[1:])]
    best = sorted(cut, key=setting.divergence.of)[: count - half]
    return best + random_members(space, setting.costs, low, high, half, seed)


def sandwich(options: Options, setting: Setting, epochs: int, seed: int) -> None:
    """Train all options together for ``epochs``."""
    plan = replace(setting.plan, epochs=epochs, warmup_epochs=0.2 * epochs)
    batches = Batches(setting.train, plan.batch_size, plan.augmentation, seed)
    optimizer = torch.optim.SGD(
        [each for each in options.parameters() if each.requires_grad],
        plan.peak_learning_rate,
        plan.momentum,
        nesterov=True,
        weight_decay=plan.weight_decay,
    )
    whole, teacher = setting.space.largest, setting.tuned.eval()
    options.eval()  # the statistics of the tuned network stay
    pool = [
        member
        for percent in PERCENTS
        for member in members_of(setting, percent, 2 * epochs * batches.steps, seed)
    ]
    rng = np.random.default_rng(seed)
    for step in range(epochs * batches.steps):
        images, labels = batches.batch(step)
        for group in optimizer.param_groups:
            group["lr"] = RATE_SHARE * learning_rate(plan, step, batches.steps)
        optimizer.zero_grad(set_to_none=True)
        logits = options(images, whole)
        loss = task_loss(logits, None, labels, plan) + distillation(logits, teacher, images)
        (0.5 * loss).backward()
        answers = logits.detach().softmax(1)
        for number in rng.choice(len(pool), STEP_MEMBERS):
            F.cross_entropy(options(images, pool[number]), answers).backward()
        optimizer.step()


class Compared(NamedTuple):
    """A member's figures from each start: epochs, processor seconds, validation accuracy before and
    after its training, test accuracy after it, divergence before it."""

    starts: Mapping[str, tuple[float, ...]]


def compared(
    setting: Setting, options: Options, genotype: Genotype, sandwich_s: float, seed: int
) -> Compared:
    """Train a member from each start."""
    architecture = setting.space.architecture(genotype)
    plan = member_plan(setting.plan, len(setting.train.labels))
    solved = setting.divergence.refitted(genotype).state_dict()
    shared = options.weights(genotype)
    starts: dict[str, tuple[float, ...]] = {}
    start = starts["closed form"] = _trained(setting, architecture, solved, plan, seed)
    starts["sandwich"] = _trained(setting, architecture, shared, plan, seed)
    epochs = Epochs(round(plan.epochs * (1 + sandwich_s / start[1])))
    more = longer(plan, epochs, len(setting.train.labels))
    starts["closed form, longer"] = _trained(setting, architecture, solved, more, seed)
    return Compared(starts)


def _trained(
    setting: Setting,
    architecture: Architecture,
    weights: Mapping[str, Tensor],
    plan: TrainingPlan,
    seed: int,
) -> tuple[float, ...]:
    network = build(architecture)
    network.load_state_dict(dict(weights))
    taught = Resized(network.eval(), architecture.blocks[0].in_size)
    before = accuracy(taught, setting.valid)
    divergence = _divergence(setting, taught)
    start = process_time()
    train(taught, setting.train, plan, seed, teacher=setting.tuned, valid=setting.valid)
    seconds = process_time() - start
    after = [accuracy(taught, data) for data in (setting.valid, setting.test)]
    return (plan.epochs, seconds, before, *after, divergence)


@torch.no_grad()
def _divergence(setting: Setting, network: nn.Module) -> float:
    """Return the divergence of the outputs for the validation photos from the tuned network's."""
    total = 0.0
    for images, _ in setting.valid.in_order():
        wanted, given = setting.tuned(images).log_softmax(1), network(images).log_softmax(1)
        total += F.kl_div(given, wanted, reduction="sum", log_target=True).item()
    return total / len(setting.valid.labels)


def _module(block: Block, forms: ClosedForms, place: int) -> nn.Module:
    """Return a block with copies of its weights in closed form."""
    module = block_module(block)
    weights = forms.block(place, block)
    module.load_state_dict({name: value.clone() for name, value in weights.items()})
    return module.requires_grad_(True)


def summary(percent: int, rows: Sequence[Compared]) -> Iterator[list[object]]:
    """Yield the means over the members of a budget, a row for each start."""
    after = [row.starts["closed form"][4] for row in rows]
    for start in rows[0].starts:
        values = [row.starts[start] for row in rows]
        epochs, seconds, before, valid, test, divergence = (
            fmean(column) for column in zip(*values, strict=True)
        )
        tau = kendalltau([-each[5] for each in values], after)[0]
        shares = [f"{100 * share:.1f}" for share in (before, valid, test)]
        figures = [f"{epochs:g}", f"{seconds:.0f}", *shares, f"{divergence:.3f}", f"{tau:.2f}"]
        yield [percent, start, *figures]


if __name__ == "__main__":
    main()
