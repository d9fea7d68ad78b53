"""Evaluates a model file on labelled images in its own runtime, image by image."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from hwnas.data.photos.labelled import ReadingOptions
from hwnas.data.thumbnails import thumbnail
from hwnas.errors import HwnasError, UsageError
from hwnas.evaluation.classes import check_outputs, match_classes
from hwnas.evaluation.classifier import Classifier
from hwnas.evaluation.images import LabelledImages, SplitName, find_images, fitted_images
from hwnas.evaluation.result import Evaluation, Scores, Source, summarise


class EvaluationRun(NamedTuple):
    """The result of an evaluation, with pictures for its page."""

    evaluation: Evaluation
    thumbnails: tuple[str, ...]
    """A data URI for each of the worst images."""


def evaluate_model(
    classifier: Classifier, data: str, split: SplitName | None, options: ReadingOptions
) -> EvaluationRun:
    """Evaluate a model file on a split of a data set, by default as `find_images` chooses.

    Raises `UsageError` for classes that differ, `InvalidFile` for an image that can't be read
    unless broken ones are skipped.
    """
    images = find_images(data, split, classifier.input_shape, classifier.trained_on)
    if not len(images.labels):
        raise UsageError(f"{data}: there are no {split or 'test'} images")
    places = np.arange(len(images.classes))
    if classifier.labels:
        places = match_classes(str(classifier.path), classifier.labels, data, images.classes)
    rows, outputs = _run(classifier, images, options)
    scores = Scores(
        names=[images.pictures.name(row) for row in rows],
        labels=places[images.labels[rows]],
        probabilities=classifier.scores(outputs),
    )
    source = Source(
        model=str(classifier.path),
        runtime=classifier.runtime,
        data=images.name,
        choice=images.choice,
        skipped=len(images.labels) - len(rows),
        notes=_notes(classifier, images),
    )
    evaluation = summarise(source, scores, classifier.labels or images.classes)
    thumbnails = (thumbnail(images.pictures.picture(rows[place])) for place in scores.worst())
    return EvaluationRun(evaluation, tuple(thumbnails))


def _run(
    classifier: Classifier, images: LabelledImages, options: ReadingOptions
) -> tuple[list[int], NDArray[np.float32]]:
    """Return the rows of the images that can be read, and their outputs ``[N, outputs]``."""
    rows: list[int] = []
    outputs: list[NDArray[np.float32]] = []
    count = len(images.labels)
    pixels = fitted_images(images, classifier.input_shape, options)
    with options.step(f"evaluating {count} images") as progress:
        for row, values in classifier.outputs(pixels):
            if not rows and not classifier.labels:
                check_outputs(str(classifier.path), len(values), images.name, images.classes)
            rows.append(row)
            outputs.append(values)
            progress(row + 1, count, "")
    if not rows:
        raise HwnasError(f"{images.name}: none of its images can be read")
    return rows, np.stack(outputs)


def _notes(classifier: Classifier, images: LabelledImages) -> tuple[str, ...]:
    if classifier.labels:
        absent = len(classifier.labels) - len(images.classes)
        note = f"{images.name} has {len(images.classes)} of the model's {len(classifier.labels)}"
        return (f"{note} classes",) * (absent > 0)
    return (f"the file names no classes: its outputs were taken for those of {images.name}",)
