"""Scores of the networks of the table with the weights of a supernet."""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import Tensor
from torch.nn.functional import cross_entropy

from hwnas.architecture.architecture import Genotype
from hwnas.nn.supernet import Supernet
from hwnas.search.freezing import Frozen
from hwnas.training.evaluation import best_scale, label_probability, recalibrate
from hwnas.training.images.loader import Batch, Data
from tools.evaluate.exhaustive.problem import Choices, Images, all_choices, space

IMAGES = (256, 1000, 2000)
"""Validation images by which networks are judged: the first of those of the table."""
RECALIBRATION = (256, 2048)
"""Training images over which batch norm statistics are averaged."""

Scores = dict[str, tuple[float, ...]]
"""Scores of all networks in the order of the table, by the name of the score; the higher the
better."""


def judge(supernet: Supernet, images: Images, recalibrated: bool) -> Scores:
    """Return all scores of all networks; with ``recalibrated`` also with averaged statistics."""
    batches = list(images.valid.in_order())
    labels = torch.cat([wanted for _, wanted in batches])
    ways = {"": [scores_of(logits, labels) for logits in all_logits(supernet, batches)]}
    if recalibrated:
        for count in RECALIBRATION:
            train = images.train.sample(count, 0)
            ways[f", statistics of {count} images"] = [
                scores_of(_recalibrated_logits(supernet, choices, train, batches), labels)
                for choices in all_choices(space())
            ]
    return {
        name + way: tuple(round(line[name], 5) for line in lines)
        for way, lines in ways.items()
        for name in lines[0]
    }


@torch.no_grad()
def network_logits(supernet: Supernet, choices: Choices, batches: list[Batch]) -> Tensor:
    """Return the logits of a network ``[N, classes]`` with the statistics of each batch."""
    supernet.train()
    with Frozen(supernet)():
        return torch.cat([supernet(images, choices) for images, _ in batches])


@torch.no_grad()
def all_logits(supernet: Supernet, batches: list[Batch]) -> Tensor:
    """Return the logits of all networks ``[networks, N, classes]`` with the statistics of each
    batch. Networks whose first choices are equal share the computation of those blocks."""
    supernet.train()
    with Frozen(supernet)():
        parts = [list(_ends(supernet, supernet.stem(images), 0)) for images, _ in batches]
    return torch.stack([torch.cat(network) for network in zip(*parts, strict=True)])


def _ends(supernet: Supernet, x: Tensor, decision: int) -> Iterator[Tensor]:
    """Yield the logits of all networks that share the given input of a decision."""
    if decision == len(supernet.ops):
        yield supernet.head(x)
        return
    op = supernet.ops[decision]
    for choice in range(len(op)):
        yield from _ends(supernet, op(x, choice), decision + 1)


@torch.no_grad()
def _recalibrated_logits(
    supernet: Supernet, choices: Choices, train: Data, batches: list[Batch]
) -> Tensor:
    network = supernet.extract(Genotype(space().name, choices))
    recalibrate(network, train)
    return torch.cat([network(images) for images, _ in batches])


def scores_of(logits: Tensor, labels: Tensor) -> dict[str, float]:
    """Return all scores of a network with ``logits [N, classes]``; the higher the better."""
    hits = (logits.argmax(1) == labels).float()
    given = logits.softmax(1).gather(1, labels[:, None])
    scores: dict[str, float] = {}
    for count in IMAGES:
        scores[f"accuracy, {count} images"] = hits[:count].mean().item()
        scores[f"label probability, {count} images"] = label_probability(
            logits[:count], labels[:count]
        )
        scores[f"label probability as it is, {count} images"] = given[:count].mean().item()
    scaled = best_scale(logits, labels) * logits
    scores["cross-entropy"] = -cross_entropy(logits, labels).item()
    scores["cross-entropy at the best temperature"] = -cross_entropy(scaled, labels).item()
    return scores
