"""Metrics that compare the outputs of a file with PyTorch's."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import numpy as np

from hwnas.architecture.artifact import DecidedClasses, Parity
from hwnas.measurement.classification import (
    balanced_accuracy,
    class_accuracies,
    packed_hits,
    top5_accuracy,
)

Array = np.ndarray[Any, Any]

MAX_DB = 200.0
"""Largest ratio of signal to noise that is stated; that of float32 is about 140 dB."""


DECIDED_DEVIATIONS = 2.0
"""Standard deviations by which a class is decided; normal noise exceeds them in 1 of 40 cases."""

SAME_LOGITS = 1e-4
"""Share of the largest logit up to which the logits of images are the same: float32's rounding."""


def is_logits(outputs: Mapping[str, Array]) -> bool:
    """Return whether outputs ``[N, 1, ...]`` are those of a classifier: logits, of two classes."""
    (first, *others) = outputs.values()
    return not others and first.ndim == 3 and first.shape[2] > 1 and first.dtype.kind == "f"


def relative_error(outputs: Array, expected: Array) -> float:
    """Return ``max|outputs - expected| / max|expected|`` over all elements."""
    difference = float(np.abs(outputs - expected).max(initial=0.0))
    return difference / float(np.abs(expected).max()) if difference else 0.0


def sqnr_db(outputs: Array, expected: Array) -> float:
    """Return ``10 log10(sum(expected^2) / sum((outputs - expected)^2))``, -`MAX_DB` to `MAX_DB`."""
    noise = float(np.square(outputs - expected, dtype=np.float64).sum())
    signal = float(np.square(expected, dtype=np.float64).sum())
    return power_ratio_db(signal, noise)


def power_ratio_db(signal: float, noise: float) -> float:
    """Return ``10 log10(signal / noise)``, -`MAX_DB` to `MAX_DB`; without noise the latter."""
    if noise <= signal * 10 ** (-MAX_DB / 10):
        return MAX_DB
    return 10 * math.log10(max(signal / noise, 10 ** (-MAX_DB / 10)))


def hidden_error(outputs: Array, expected: Array) -> float:
    """Return the largest relative error of an image or channel whose values are small.

    Values of other images or channels that are a thousand times larger would hide it. The first
    axis are images, the channels are the third axis of ``[N, 1, C, H, W]``, else the last. Errors
    below float32's unit of the largest value do not count: a sigmoid or a sum rounds to that unit.
    """
    largest, worst = float(np.abs(expected).max(initial=0.0)), 0.0
    rounding = float(np.finfo(np.float32).eps) * largest
    for axis in {0, 2 if expected.ndim == 5 else expected.ndim - 1}:
        others = tuple(other for other in range(expected.ndim) if other != axis)
        sizes = np.abs(expected).max(axis=others, initial=0.0)
        errors = np.abs(outputs - expected).max(axis=others, initial=0.0)
        small = (sizes > np.finfo(np.float32).tiny) & (sizes < 1e-3 * largest)
        small &= errors > rounding
        worst = max(worst, float((errors[small] / sizes[small]).max(initial=0.0)))
    return worst


def decided_classes(outputs: Array, expected: Array) -> DecidedClasses:
    """Compare logits ``[N, classes]`` where the noise of ``outputs`` leaves the class decided."""
    own, theirs = (
        logits.astype(np.float64) - logits.mean(axis=1, keepdims=True)
        for logits in (expected, outputs)
    )
    least, largest = np.sort(own, axis=1)[:, -2:].T
    decided = largest - least > DECIDED_DEVIATIONS * np.sqrt(2) * (theirs - own).std()
    same = own.argmax(axis=1) == theirs.argmax(axis=1)
    difference = own - own.mean(axis=0)
    differs = bool(np.abs(difference).max() > SAME_LOGITS * np.abs(expected).max())
    return DecidedClasses(
        images=int(decided.sum()),
        agreement=float(same[decided].mean()) if decided.any() else 0.0,
        difference_sqnr_db=sqnr_db(theirs - theirs.mean(axis=0), difference) if differs else None,
    )


def accuracy(logits: Array, labels: Array) -> float:
    """Return the top-1 accuracy, 0 to 1, of logits ``[N, classes]``."""
    return float((logits.argmax(axis=1) == labels).mean())


def parity(outputs: Array, expected: Array, labels: Array | None) -> Parity:
    """Compare logits ``[N, classes]``; without ``labels`` PyTorch's classes count as right."""
    predicted = expected.argmax(axis=1)
    truth = predicted if labels is None else labels
    return Parity(
        images=len(outputs),
        max_relative_error=relative_error(outputs, expected),
        accuracy_torch=accuracy(expected, truth),
        accuracy_artifact=accuracy(outputs, truth),
        label_agreement=accuracy(outputs, predicted),
        top5_artifact=None if labels is None else top5_accuracy(outputs, labels),
        balanced_artifact=(
            None if labels is None else balanced_accuracy(outputs.argmax(axis=1), labels)
        ),
        hits="" if labels is None else packed_hits(outputs.argmax(axis=1), labels),
        class_accuracies=(
            ()
            if labels is None
            else class_accuracies(outputs.argmax(axis=1), labels, outputs.shape[1])
        ),
    )
