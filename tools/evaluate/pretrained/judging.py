"""Time of the closed forms of a network, and the number of its members that are judged a second."""

from __future__ import annotations

from pathlib import Path
from random import Random
from time import process_time
from typing import NamedTuple

import torch

from hwnas.data.datasets import load_dataset
from hwnas.nn.elastic.member import ClosedForms
from hwnas.nn.elastic.statistics import collect, elastic_places
from hwnas.pretrained.load import load_source
from hwnas.search.elastic.divergence import Divergence
from hwnas.search.elastic.strategy import DIVERGENCE_IMAGES, STATISTICS_IMAGES
from hwnas.spaces.elastic.space import elastic_space
from hwnas.training.images.loader import as_data

MEMBERS = 8
"""Random members that are judged."""


class Judging(NamedTuple):
    """Processor times on one core."""

    closed_forms_s: float
    """Time of the network's statistics and of the weights of all cuts of all blocks."""
    increments_s: float
    """Time to compute the divergence that each cut alone causes."""
    members_per_s: float


@torch.no_grad()
def judging_speed(network: str, photos: Path, size: int) -> Judging:
    """Return how fast the members of a network are judged on photos of ``size`` pixels."""
    torch.set_num_threads(1)
    dataset = load_dataset(str(photos), input_shape=(3, size, size))
    source = load_source(network).at((3, size, size), dataset.classes)
    means = source.preprocessing.mean, source.preprocessing.std
    train = as_data(dataset.train, dataset.normalised_by(*means))
    sample = train.sample(max(STATISTICS_IMAGES, DIVERGENCE_IMAGES), seed=0)
    images = torch.cat([batch for batch, _ in sample.in_order()])
    space, whole = elastic_space(network, source.architecture), source.network()

    started = process_time()
    places = [place for place in elastic_places(whole) if place in space.elastic]
    statistics = collect(whole, images[:STATISTICS_IMAGES].split(32), places)
    forms = ClosedForms(whole, source.architecture.blocks, statistics, source.slices)
    for place, cuts in enumerate(space.cuts):
        for candidate in range(len(cuts)):
            forms.block(place, space.block(0, place, candidate))
    solved = process_time()
    divergence = Divergence(space, forms, images[:DIVERGENCE_IMAGES])
    divergence.increments(space.default.choices[0])
    measured = process_time()
    rng = Random(0)
    for _ in range(MEMBERS):
        divergence.of(space.random(rng))
    members_per_s = MEMBERS / (process_time() - measured)
    return Judging(solved - started, measured - solved, members_per_s)
