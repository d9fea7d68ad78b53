"""Images to verify and to calibrate a model file with, from a data set or as noise."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from hwnas.architecture.artifact import Precision
from hwnas.data.datasets import Dataset, load_dataset, normalise
from hwnas.errors import ExportError, UsageError
from hwnas.export.metadata.input import Preprocessing
from hwnas.export.quantization.ptq import CALIBRATION_IMAGES
from hwnas.export.quantization.ranges import check_images
from hwnas.export.verification.images import IMAGES, Verification, noise_images

Shape = tuple[int, int, int]

MAX_NAMES = 5
"""Classes that an error lists."""


class VerificationData(NamedTuple):
    """Images to verify a file on, and where they come from."""

    verification: Verification
    source: str
    """A phrase for messages, e.g. ``16 images of fashion-mnist``."""
    preprocessing: Preprocessing | None = None
    """How the images were normalised, and their classes; None for noise."""


def verification_data(
    data: str | None,
    input_shape: Shape,
    precision: Precision = "fp32",
    count: int | None = None,
    own: Preprocessing | None = None,
) -> VerificationData:
    """Return validation images and labels of a data set, or noise if ``data`` is None.

    ``own`` is what a trained network says of its images; without it they are normalised as the data
    set's. Raises `UsageError` for a data set of other classes.
    """
    if data is None:
        noise = noise_images(input_shape, precision, count)
        return VerificationData(noise, f"{len(noise.images)} images of noise", own)
    dataset = _dataset(data, input_shape, own)
    count = count or IMAGES[precision]
    images = normalise(dataset.valid.images[:count], dataset)
    if not len(images):
        raise UsageError(f"{data}: has no validation images to verify on")
    labels = dataset.valid.labels[:count]
    return VerificationData(
        Verification(images, labels),
        f"{len(images)} images of {dataset.name}",
        Preprocessing(dataset.mean, dataset.std, dataset.classes),
    )


def calibration_images(
    data: str, input_shape: Shape, own: Preprocessing | None = None
) -> np.ndarray:
    """Return normalised training images ``[N, C, H, W]`` to calibrate an int8 file with.

    Raises `ExportError` if no ranges can be measured on them.
    """
    dataset = _dataset(data, input_shape, own)
    order = np.random.default_rng(0).permutation(len(dataset.train.labels))[:CALIBRATION_IMAGES]
    images = normalise(dataset.train.images[order], dataset)
    try:
        check_images(images)
    except ExportError as error:
        raise ExportError(f"{data}: {error}") from None
    return images


def _dataset(data: str, input_shape: Shape, own: Preprocessing | None) -> Dataset:
    dataset = load_dataset(data, input_shape=input_shape)
    if own is None:
        return dataset
    if own.labels and own.labels != dataset.classes:
        here, there = (", ".join(names[:MAX_NAMES]) for names in (dataset.classes, own.labels))
        raise UsageError(f"{data}: has the classes {here}, but the network was trained on {there}")
    return dataset.normalised_by(own.mean, own.std)
