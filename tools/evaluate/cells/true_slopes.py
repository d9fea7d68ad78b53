"""Architecture gradients of DARTS against true slopes of the validation loss.

A true slope needs no gradient of architecture parameters: these are moved by ``+h`` and ``-h``
along a direction, the weights are trained from the same state under both, and the losses on the
validation batch and on other validation images are compared.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from itertools import islice
from typing import NamedTuple

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.func import functional_call

from hwnas.search.cells.unrolled_gradient import (
    Order,
    VirtualStep,
    Weights,
    architecture_gradient,
)
from hwnas.training.images.loader import Batch
from hwnas.training.seeds import derived_seed

KINDS: dict[str, tuple[Order, float]] = {
    "first order": ("first", 0.0),
    "difference, radius 0.01": ("second", 0.01),
    "difference, radius 0.1": ("second", 0.1),
    "exact product": ("exact", 0.0),
}
MOVED = 0.05
"""Length of the move of architecture parameters to each side, for a true slope."""


class State(NamedTuple):
    """The state of a search after some steps."""

    net: nn.Module
    weights: Weights
    arch: list[Tensor]
    step: VirtualStep

    def loss(self, weights: Mapping[str, Tensor], arch: Sequence[Tensor], batch: Batch) -> Tensor:
        images, labels = batch
        mixing = (part.softmax(1) for part in arch)
        return F.cross_entropy(functional_call(self.net, dict(weights), (images, *mixing)), labels)

    def gradient(self, kind: str, train: Batch, valid: Batch) -> list[Tensor]:
        order, radius = KINDS[kind]
        _, gradients = architecture_gradient(
            lambda weights, arch: self.loss(weights, arch, train),
            lambda weights, arch: self.loss(weights, arch, valid),
            self.weights,
            self.arch,
            self.step,
            order,
            radius,
        )
        return gradients

    def trained(self, arch: Sequence[Tensor], batches: Sequence[Batch]) -> Weights:
        """Return the weights after a step of SGD on each batch."""
        weights, momenta = dict(self.weights), dict(self.step.momenta)
        for batch in batches:
            live = {name: weight.detach().requires_grad_() for name, weight in weights.items()}
            slopes = torch.autograd.grad(
                self.loss(live, arch, batch), list(live.values()), materialize_grads=True
            )
            step = self.step._replace(momenta=momenta)
            weights = step.apply(live, slopes)
            momenta = {
                name: (live[name] - weight).detach() / step.learning_rate
                for name, weight in weights.items()
            }
        return weights

    def slopes(
        self, direction: Sequence[Tensor], batches: Sequence[Batch], valid: Sequence[Batch]
    ) -> list[float]:
        """Return the true slope of the loss on each validation batch along a direction of unit
        length, where weights are trained on ``batches``."""
        sides: list[list[float]] = []
        for sign in (1, -1):
            arch = [
                (part + sign * MOVED * move).detach()
                for part, move in zip(self.arch, direction, strict=True)
            ]
            weights = self.trained(arch, batches)
            with torch.no_grad():
                sides.append([self.loss(weights, arch, batch).item() for batch in valid])
        return [(plus - minus) / (2 * MOVED) for plus, minus in zip(*sides, strict=True)]


class Comparison(NamedTuple):
    """Figures of one kind of gradient after some steps of a search."""

    point: int
    kind: str
    distance: float
    """L2 distance from the exact gradient, relative to that gradient's length."""
    correlation: float
    """Correlation with true slopes along random directions, of the validation loss one step
    ahead."""
    fall: float
    """Slope of the validation batch's loss along the gradient, one step ahead."""
    far_fall: float
    other_fall: float
    """Slope of the loss on other validation images along the gradient, several steps ahead."""


class Batches(NamedTuple):
    """Images of a comparison."""

    train: Iterator[Batch]
    valid: Iterator[Batch]
    other: Batch


def compare(
    state: State, point: int, images: Batches, directions: int, ahead: int
) -> list[Comparison]:
    """Return the comparison of all kinds of gradients at one point of a search."""
    train, valid, other = (next(images.train), next(images.valid), images.other)
    further = [train, *islice(images.train, ahead - 1)]
    gradients = {kind: state.gradient(kind, train, valid) for kind in KINDS}
    generator = torch.Generator().manual_seed(derived_seed(point, "directions"))
    randoms = [
        unit([torch.randn(part.shape, generator=generator) for part in state.arch])
        for _ in range(directions)
    ]
    near = [state.slopes(each, [train], [valid])[0] for each in randoms]
    exact = gradients["exact product"]
    rows: list[Comparison] = []
    for kind, gradient in gradients.items():
        predicted = [dot(gradient, each) for each in randoms]
        along = unit(gradient)
        difference = [a - b for a, b in zip(gradient, exact, strict=True)]
        far_fall, other_fall = state.slopes(along, further, [valid, other])
        rows.append(
            Comparison(
                point,
                kind,
                dot(difference, difference) ** 0.5 / dot(exact, exact) ** 0.5,
                float(np.corrcoef(predicted, near)[0, 1]),
                state.slopes(along, [train], [valid])[0],
                far_fall,
                other_fall,
            )
        )
    return rows


def dot(left: Sequence[Tensor], right: Sequence[Tensor]) -> float:
    return sum((a * b).sum().item() for a, b in zip(left, right, strict=True))


def unit(parts: Sequence[Tensor]) -> list[Tensor]:
    length = dot(parts, parts) ** 0.5
    return [part / length for part in parts]
