"""The log of a training: a line for each epoch, and the progress within an epoch."""

from __future__ import annotations

from typing import NamedTuple

import msgspec


class EpochLog(msgspec.Struct, frozen=True):
    """Loss, accuracy and speed of one epoch: a line of ``log.jsonl``."""

    epoch: int
    epochs: int
    loss: float
    accuracy: float
    """Share of the (augmented) training images that were classified correctly during the epoch."""
    images_per_s: float = 0.0
    """Training images of all ranks per second, since the start or the resumption of the epoch."""
    waiting: float = 0.0
    """Share of that time in which no batch was ready."""
    peak_bytes: int = 0
    """Largest memory so far: of the GPU, or of this process on a CPU."""
    validation_accuracy: float | None = None
    """Validation accuracy after the epoch; ``None`` if the plan has no patience."""


class Progress(NamedTuple):
    """The progress of a training within an epoch."""

    step: int
    steps: int
    """Steps of the whole training."""
    loss: float
    """Mean loss of the epoch so far."""
    accuracy: float
    images_per_s: float
    waiting: float
    """Share of the time in which no batch was ready."""
    peak_bytes: int
    """Largest memory so far: of the GPU, or of this process on a CPU."""
