"""The result of an evaluation as plain data, computed from a model's scores.

Accuracies and probabilities are shares from 0 to 1; intervals are Wilson's, of 95 %.
"""

from __future__ import annotations

from math import log
from typing import NamedTuple

import msgspec
import numpy as np
from numpy.typing import NDArray

from hwnas.measurement.classification import mean_class_accuracy, top5_accuracy
from hwnas.measurement.statistics import wilson_interval

WORST_IMAGES = 24
"""Number of images listed, those of the highest loss."""

SMALLEST_PROBABILITY = 1e-12
"""Lower bound of a probability in the loss, as int8 outputs round small ones to 0."""


class ClassResult(msgspec.Struct, frozen=True):
    """The classification of the images of one class."""

    name: str
    images: int
    correct: int
    recall: float
    """Share of the class's images that were classified correctly: the accuracy of the class."""
    ci95: tuple[float, float]
    """Interval of the recall."""
    precision: float | None
    """Share of the images classified as this class that belong to it; None if there are none."""
    confused_with: str | None
    """Other class that its images were most often classified as; None if there is none."""
    confused: int
    """Number of its images that were classified as ``confused_with``."""


class Confusion(msgspec.Struct, frozen=True):
    """Number of images by class (rows) and predicted class (columns)."""

    rows: tuple[str, ...]
    """Classes that have images."""
    columns: tuple[str, ...]
    """The same classes, and after them other classes that were predicted."""
    counts: list[list[int]]


class ImageResult(msgspec.Struct, frozen=True):
    """The classification of one image."""

    image: str
    label: str
    """Name of its class."""
    predicted: str
    score: float
    """Probability of the predicted class."""
    label_score: float
    """Probability of its own class."""
    loss: float
    """Cross-entropy, in nats."""


class Evaluation(msgspec.Struct, frozen=True, kw_only=True):
    """The accuracy of a model file on labelled images, in its own runtime."""

    model: str
    runtime: str
    """Runtime with its version."""
    data: str
    choice: str
    """Which images of the data set, and why these."""
    images: int
    accuracy: float
    ci95: tuple[float, float]
    """Interval of the accuracy."""
    balanced_accuracy: float
    """Mean of the recalls of the classes."""
    top5_accuracy: float | None
    """None for fewer than 20 classes."""
    loss: float
    """Mean cross-entropy, in nats."""
    classes: tuple[ClassResult, ...]
    """Classes that have images, the lowest recall first."""
    confusion: Confusion
    worst: tuple[ImageResult, ...]
    """Images of the highest loss, at most 24."""
    skipped: int = 0
    """Images that could not be read and were left out."""
    notes: tuple[str, ...] = ()


class Scores(NamedTuple):
    """The outputs of a model for all images."""

    names: list[str]
    """Names of the images."""
    labels: NDArray[np.int64]
    """Outputs of the images' classes, ``[N]``."""
    probabilities: NDArray[np.float32]
    """``[N, outputs]``."""

    def losses(self) -> NDArray[np.float32]:
        own = np.take_along_axis(self.probabilities, self.labels[:, None], axis=1)[:, 0]
        return -np.log(np.maximum(own, SMALLEST_PROBABILITY))

    def worst(self) -> list[int]:
        """Return the rows of the images of the highest loss, the highest first."""
        return np.argsort(-self.losses(), kind="stable")[:WORST_IMAGES].tolist()


class Source(NamedTuple):
    """Names of the model and of the data, for the result."""

    model: str
    runtime: str
    data: str
    choice: str
    skipped: int
    notes: tuple[str, ...]


def summarise(source: Source, scores: Scores, outputs: tuple[str, ...]) -> Evaluation:
    """Return the result of an evaluation; ``outputs`` are the names of the model's outputs."""
    predicted, labels = scores.probabilities.argmax(axis=1), scores.labels
    matrix = np.zeros((len(outputs), len(outputs)), dtype=np.int64)
    np.add.at(matrix, (labels, predicted), 1)
    accuracy = float((predicted == labels).mean())
    return Evaluation(
        model=source.model,
        runtime=source.runtime,
        data=source.data,
        choice=source.choice,
        images=len(labels),
        accuracy=accuracy,
        ci95=wilson_interval(accuracy, len(labels)),
        balanced_accuracy=mean_class_accuracy(predicted, labels),
        top5_accuracy=top5_accuracy(scores.probabilities, labels),
        loss=float(scores.losses().mean(dtype=np.float64)),
        classes=_class_results(matrix, outputs),
        confusion=_confusion(matrix, outputs),
        worst=tuple(_image_result(scores, row, outputs) for row in scores.worst()),
        skipped=source.skipped,
        notes=source.notes,
    )


def _class_results(matrix: NDArray[np.int64], names: tuple[str, ...]) -> tuple[ClassResult, ...]:
    present = np.flatnonzero(matrix.sum(axis=1)).tolist()
    results = [_class_result(matrix, names, place) for place in present]
    return tuple(sorted(results, key=lambda result: result.recall))


def _class_result(matrix: NDArray[np.int64], names: tuple[str, ...], place: int) -> ClassResult:
    images, correct = int(matrix[place].sum()), int(matrix[place, place])
    predicted = int(matrix[:, place].sum())
    others = matrix[place].copy()
    others[place] = 0
    confused = int(others.max())
    return ClassResult(
        name=names[place],
        images=images,
        correct=correct,
        recall=correct / images,
        ci95=wilson_interval(correct / images, images),
        precision=correct / predicted if predicted else None,
        confused_with=names[int(others.argmax())] if confused else None,
        confused=confused,
    )


def _confusion(matrix: NDArray[np.int64], names: tuple[str, ...]) -> Confusion:
    present = np.flatnonzero(matrix.sum(axis=1))
    others = np.setdiff1d(np.flatnonzero(matrix.sum(axis=0)), present)
    columns = np.concatenate([present, others])
    return Confusion(
        rows=tuple(names[place] for place in present),
        columns=tuple(names[place] for place in columns),
        counts=matrix[np.ix_(present, columns)].tolist(),
    )


def _image_result(scores: Scores, row: int, names: tuple[str, ...]) -> ImageResult:
    probabilities, label = scores.probabilities[row], int(scores.labels[row])
    predicted = int(probabilities.argmax())
    own = float(probabilities[label])
    return ImageResult(
        image=scores.names[row],
        label=names[label],
        predicted=names[predicted],
        score=float(probabilities[predicted]),
        label_score=own,
        loss=-log(max(own, SMALLEST_PROBABILITY)),
    )
