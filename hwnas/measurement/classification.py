"""Accuracies of a classifier beside the top-1 accuracy, for many or unbalanced classes."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from hwnas.measurement.statistics import wilson_interval

TOP5_CLASSES = 20
"""Least number of classes for a top-5 accuracy; with few classes it is high by chance."""
UNBALANCED_RATIO = 1.5
"""Ratio of the images of the largest class to those of the smallest from which classes are
unbalanced."""

Labels = NDArray[np.integer[Any]]


def top5_accuracy(logits: NDArray[np.floating[Any]], labels: Labels) -> float | None:
    """Return the share of rows of ``logits [N, classes]`` with the label among the five largest.

    ``None`` for fewer than `TOP5_CLASSES` classes.
    """
    classes = logits.shape[1]
    if classes < TOP5_CLASSES:
        return None
    best = np.argpartition(logits, classes - 5, axis=1)[:, classes - 5 :]
    return float((best == labels[:, None]).any(axis=1).mean())


def class_accuracies(predicted: Labels, labels: Labels, classes: int) -> tuple[float | None, ...]:
    """Return the share of each class's images that are classified correctly, ``None`` for a class
    without images."""
    counts = np.bincount(labels, minlength=classes)
    correct = np.bincount(labels, weights=predicted == labels, minlength=classes)
    return tuple(
        float(right / count) if count else None
        for right, count in zip(correct, counts, strict=True)
    )


def mean_class_accuracy(predicted: Labels, labels: Labels) -> float:
    """Return the mean over classes of the share of a class's images that are classified correctly.

    Classes without images don't count.
    """
    counts = np.bincount(labels)
    present = counts > 0
    correct = np.bincount(labels, weights=predicted == labels)
    return float((correct[present] / counts[present]).mean())


def balanced_accuracy(predicted: Labels, labels: Labels) -> float | None:
    """Return the `mean_class_accuracy`.

    ``None`` if the classes are balanced: then it is about equal to the accuracy.
    """
    return mean_class_accuracy(predicted, labels) if unbalanced(labels) else None


def unbalanced(labels: Labels) -> bool:
    """Whether a class has `UNBALANCED_RATIO` times the images of another; empty ones don't
    count."""
    counts = np.bincount(labels)
    return bool(counts.max() >= UNBALANCED_RATIO * counts[counts > 0].min())


def chance_note(accuracy: float, labels: Labels, score: str = "accuracy") -> str:
    """Return a note if an accuracy on images with ``labels`` is no better than chance, within its
    95 % interval; empty otherwise. ``score`` names the accuracy.

    Chance is the accuracy of always predicting the most frequent class.
    """
    counts = np.bincount(labels)
    chance = float(counts.max() / len(labels))
    if np.count_nonzero(counts) < 2 or wilson_interval(accuracy, len(labels))[0] > chance:
        return ""
    return (
        f"The network is not better than chance: {accuracy:.1%} {score} on {len(labels):,} "
        f"validation images, of which {chance:.1%} are of one class. Train it for longer, or check "
        "the labels."
    )


def packed_hits(predicted: Labels, labels: Labels) -> str:
    """Return whether each prediction is correct, as hexadecimal digits of four images each. The
    first image is the highest bit. Two models on the same images are compared by these bits.
    """
    return np.packbits(predicted == labels).tobytes().hex()
