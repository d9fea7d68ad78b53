"""Variants of the supernet's training; each differs from another in one setting."""

from __future__ import annotations

from typing import Literal

import msgspec

Sampling = Literal["uniform", "cost", "fair", "sandwich"]


class Variant(msgspec.Struct, frozen=True, kw_only=True):
    """A training of the supernet."""

    sampling: Sampling = "uniform"
    """Paths of a step: ``uniform`` candidates; ``cost``: uniform in MACs; ``fair``: each candidate
    as often (FairNAS, Chu et al. 2021); ``sandwich``: the largest, the smallest, and uniform ones
    (Yu and Huang 2019)."""
    paths: int = 1
    """Number of paths of a step."""
    whole: bool = False
    """Whether each path sees all images of the batch, and not an equal part of them."""
    distil: bool = False
    """Whether all other paths learn the largest path's outputs (in-place distillation)."""
    epochs: int = 12
    batch_size: int = 128
    learning_rate: float = 0.1
    anneal: bool = True
    """The learning rate falls along a cosine to zero."""
    label_smoothing: float = 0.1
    share_weights: bool = True
    unit_gain: bool = False
    """Residual branches start with gain 1, not at zero as in the trainings of the table."""
    averaged: float = 0.0
    """Momentum of a moving average of the weights that is judged; 0: the weights themselves."""
    statistics: bool = False
    """The networks are also judged with statistics averaged over training images."""
    marks: tuple[int, ...] = ()
    """Epochs after which the networks are judged, beside the last."""


VARIANTS: dict[str, Variant] = {
    "one path": Variant(),
    "unit gain": Variant(unit_gain=True),
    "fair": Variant(sampling="fair", paths=4),
    "fair, unit gain": Variant(sampling="fair", paths=4, unit_gain=True),
    "4 epochs": Variant(epochs=4),
    "4 epochs, unit gain": Variant(epochs=4, unit_gain=True),
    "24 epochs": Variant(epochs=24),
    "48 epochs": Variant(epochs=48),
    "constant rate": Variant(anneal=False, learning_rate=0.05, marks=(1, 2, 4, 8)),
    "averaged weights": Variant(averaged=0.98, anneal=False, learning_rate=0.05),
    "separate weights": Variant(share_weights=False),
    "no smoothing": Variant(label_smoothing=0.0),
    "rate 0.03": Variant(learning_rate=0.03),
    "rate 0.3": Variant(learning_rate=0.3),
    "batch 32": Variant(batch_size=32, learning_rate=0.05),
    "uniform in cost": Variant(sampling="cost"),
    "two paths": Variant(paths=2),
    "four paths": Variant(paths=4),
    "sandwich": Variant(sampling="sandwich", paths=4),
    "fair, whole batches": Variant(sampling="fair", paths=4, whole=True, epochs=3),
    "sandwich, distilled": Variant(sampling="sandwich", paths=4, whole=True, distil=True, epochs=3),
    "averaged statistics": Variant(statistics=True),
}
