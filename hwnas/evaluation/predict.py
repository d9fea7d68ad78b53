"""Predicts the classes of images with a model file in its own runtime."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

import msgspec
import numpy as np
from numpy.typing import NDArray

from hwnas.data.arrays import channels_first, listed
from hwnas.data.images import Shape, fit_image, fit_images
from hwnas.data.photos.labelled import ReadingOptions
from hwnas.data.photos.reading import decoded, opened
from hwnas.errors import InvalidFile
from hwnas.evaluation.classifier import Classifier
from hwnas.files import printable

TOP = 5
"""Most classes of a prediction."""


class ClassScore(msgspec.Struct, frozen=True):
    """One of the most probable classes of an image."""

    name: str
    """Name of the class, or its number if it has no name."""
    score: float
    """Probability, 0 to 1."""
    output: float
    """Output of the file, usually a logit."""


class Prediction(msgspec.Struct, frozen=True):
    """The most probable classes of an image."""

    image: str
    classes: tuple[ClassScore, ...]
    """At most five, the most probable first."""


def predict_files(
    classifier: Classifier, files: Sequence[Path], options: ReadingOptions
) -> Iterator[Prediction]:
    """Yield the prediction of each file: an image, or an ``.npy`` of uint8 pixels.

    Raises `InvalidFile` at once for a file that is missing, and later for an image that can't be
    read, with all of them after the last prediction, unless broken ones are skipped.
    """
    for file in files:
        if not file.is_file():
            why = "is a folder, expected an image" if file.is_dir() else "no such file"
            raise InvalidFile(str(file), why)

    broken: dict[str, str] = {}

    def readable() -> Iterator[tuple[str, NDArray[np.uint8]]]:
        for file in files:
            try:
                pixels = _read(file, classifier.input_shape)
            except InvalidFile as error:
                broken[error.file] = error.why
            else:
                yield printable(str(file)), pixels

    for name, outputs in classifier.outputs(readable()):
        yield _prediction(classifier, name, outputs)
    options.refuse("the images", broken, len(files))


def predict_arrays(classifier: Classifier, images: NDArray[np.uint8]) -> Iterator[Prediction]:
    """Yield the prediction of each of the images, uint8 with 1 or 3 channels and of any size.

    They are ``[N, H, W]``, ``[N, H, W, C]`` or ``[N, C, H, W]``. Raises `InvalidFile` for others.
    """
    if images.dtype != np.uint8 or images.ndim not in (3, 4):
        expected = "expected uint8 pixels [N, H, W], [N, H, W, C] or [N, C, H, W]"
        raise InvalidFile("images", f"are {images.dtype} {listed(images.shape)}, {expected}")
    planes = channels_first("images", "the array", images)
    for row, outputs in classifier.outputs(enumerate(fit_images(planes, classifier.input_shape))):
        yield _prediction(classifier, str(row), outputs)


def _prediction(classifier: Classifier, name: str, outputs: NDArray[np.float32]) -> Prediction:
    scores = classifier.scores(outputs[None])[0]
    labels = classifier.labels or tuple(map(str, range(len(outputs))))
    best = np.argsort(-scores, kind="stable")[:TOP].tolist()
    return Prediction(
        name,
        tuple(ClassScore(labels[k], float(scores[k]), float(outputs[k])) for k in best),
    )


def _read(file: Path, shape: Shape) -> NDArray[np.uint8]:
    if file.suffix == ".npy":
        return fit_images(_read_npy(file)[None], shape)[0]
    with opened(file, printable(str(file))) as image:
        return fit_image(decoded(image), shape)


def _read_npy(file: Path) -> NDArray[np.uint8]:
    """Return the pixels ``[C, H, W]`` of a file as the ``run.py`` of a bundle takes it."""
    try:
        pixels = np.load(file, allow_pickle=False)
    except (OSError, ValueError) as error:
        raise InvalidFile(str(file), f"not a readable .npy file ({error})") from None
    expected = "expected uint8 pixels [C, H, W]"
    if pixels.dtype != np.uint8 or pixels.ndim not in (2, 3):
        raise InvalidFile(str(file), f"is {pixels.dtype} {listed(pixels.shape)}, {expected}")
    return channels_first(str(file), "the image", pixels[None])[0]
