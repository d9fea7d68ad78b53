"""The effect of cuts on the predictions of a trained network.

The measure is the mean Kullback-Leibler divergence from the network's probabilities. It needs no
labels, and it is steadier than an accuracy: on 100 images an accuracy has a standard error of
several points, while the divergence counts every image.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from copy import deepcopy

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from hwnas.architecture.architecture import Architecture, Genotype
from hwnas.nn.build import Network, build
from hwnas.nn.elastic.member import ClosedForms
from hwnas.nn.elastic.refit import refit_front_to_back
from hwnas.nn.resized import resized
from hwnas.spaces.elastic.space import ElasticSpace

CHUNK_IMAGES = 16
"""Images whose feature maps are held at a time, for the blocks after a cut."""
CHUNK_PIXELS = 2000
"""Pixels of a chunk that a projection is solved again on."""


class Divergence:
    """Divergences of the members of a space from the network that it is cut from."""

    def __init__(self, space: ElasticSpace, forms: ClosedForms, images: Tensor) -> None:
        """``images [N, C, H, W]`` are normalised, in the largest resolution of the space."""
        self.space, self.forms, self.images = space, forms, images
        self._members: dict[Genotype, float] = {}
        self._refitted: tuple[Genotype, Network] | None = None
        """The last refitted member, which is often needed again."""
        self._answers = self._probabilities(self.member(space.largest), 0)

    def of(self, genotype: Genotype) -> float:
        """Return the divergence in nats of a member, with its weights before training, from the
        whole network at full resolution."""
        if genotype not in self._members:
            network = self.refitted(genotype)
            self._members[genotype] = self.of_network(network, genotype.choices[0])
        return self._members[genotype]

    def of_network(self, network: nn.Module, size: int) -> float:
        """Return the divergence of a network at the resolution of index ``size``."""
        return _divergence(self._answers, self._probabilities(network, size)).mean().item()

    @torch.no_grad()
    def increments(self, size: int) -> list[list[float]]:
        """Return the divergence of each candidate of each block, if only that block is cut.

        ``[decision][candidate]`` without the resolution, measured at the resolution of index
        ``size`` against the whole network at the same resolution.
        """
        space = self.space
        members = [list(self._single_cuts(size, number)) for number in range(len(space.elastic))]
        sums = [[0.0] * len(row) for row in members]
        whole = self._network(space.architecture(space.genotype(size)))
        for images in resized(self.images, space.sizes[size]).split(CHUNK_IMAGES):
            inputs, logits = _run(whole, images, space.elastic)
            answers = logits.log_softmax(1)
            for place, row, totals in zip(space.elastic, members, sums, strict=True):
                for candidate, member in enumerate(row):
                    if candidate:  # the first is the whole block
                        cut = member.blocks[place:](inputs[place]).log_softmax(1)
                        totals[candidate] += _divergence(answers, cut).sum().item()
        return [[total / len(self.images) for total in row] for row in sums]

    def member(self, genotype: Genotype) -> Network:
        """Return a member, in evaluation mode; its weights are shared with other members."""
        return self._network(self.space.architecture(genotype))

    def refitted(self, genotype: Genotype) -> Network:
        """Return a member whose projections are solved again for its own inputs; it shares no
        weights. The whole network has the trained weights at every resolution."""
        if self._refitted is None or self._refitted[0] != genotype:
            self._refitted = genotype, self._refit(genotype)
        return deepcopy(self._refitted[1])

    def _refit(self, genotype: Genotype) -> Network:
        architecture = self.space.architecture(genotype)
        network = build(architecture)
        if not any(genotype.choices[1:]):
            network.load_state_dict(self.forms.member(architecture.blocks))
            return network.eval()
        images = resized(self.images, self.space.sizes[genotype.choices[0]])
        weights = refit_front_to_back(
            self.forms, architecture.blocks, images.split(CHUNK_IMAGES), CHUNK_PIXELS
        )
        network.load_state_dict(weights)
        return network.eval()

    def _single_cuts(self, size: int, number: int) -> Iterator[Network]:
        """Yield the networks in which only the decision ``number`` of the blocks differs."""
        space = self.space
        for candidate in range(len(space.cuts[space.elastic[number]])):
            choices = [0] * len(space.elastic)
            choices[number] = candidate
            yield self.member(space.genotype(size, choices))

    def _network(self, architecture: Architecture) -> Network:
        with torch.device("meta"):
            network = build(architecture)
        network.load_state_dict(self.forms.member(architecture.blocks), assign=True)
        return network.eval()

    @torch.no_grad()
    def _probabilities(self, network: nn.Module, size: int) -> Tensor:
        """Return the logarithms of a network's probabilities, ``[N, classes]``."""
        images = resized(self.images, self.space.sizes[size])
        parts = [network(part).log_softmax(1) for part in images.split(CHUNK_IMAGES)]
        return torch.cat(parts)


def _run(
    network: Network, images: Tensor, places: Sequence[int]
) -> tuple[dict[int, Tensor], Tensor]:
    """Return the inputs of the blocks ``places``, and the logits."""
    inputs: dict[int, Tensor] = {}
    features = images
    for place, block in enumerate(network.blocks):
        if place in places:
            inputs[place] = features
        features = block(features)
    return inputs, features


def _divergence(answers: Tensor, other: Tensor) -> Tensor:
    """Return KL(answers || other) of each row ``[N]``; both are logarithms of probabilities."""
    return F.kl_div(other, answers, reduction="none", log_target=True).sum(1)
