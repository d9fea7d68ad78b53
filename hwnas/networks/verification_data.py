"""Images to verify and to calibrate a model file with, from a data set or as noise."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import numpy as np
from torch import nn

from hwnas.architecture.artifact import Precision
from hwnas.errors import ExportError, UsageError
from hwnas.export.compile import noise_for
from hwnas.export.graph.modules import ForeignModule
from hwnas.export.metadata.input import Preprocessing
from hwnas.export.quantization.ptq import CALIBRATION_IMAGES
from hwnas.export.quantization.ranges import check_images
from hwnas.export.samples import Samples
from hwnas.export.verification.images import IMAGES, NOISE_INPUTS, Verification
from hwnas.networks.input_kind import BothKinds, check_accuracy, check_scale
from hwnas.networks.user_module import LoadedNetwork

if TYPE_CHECKING:  # the readers of data sets take a tenth of the time of an export on noise
    from hwnas.data.datasets import Dataset

Shape = tuple[int, int, int]

MAX_NAMES = 5
"""Classes that an error lists."""

KIND_IMAGES = 64
"""Number of images on which pixels and normalised images are compared."""


class VerificationData(NamedTuple):
    """Images to verify a file on, and where they come from."""

    verification: Verification
    source: str
    """A phrase for messages, e.g. ``16 images of fashion-mnist``."""
    preprocessing: Preprocessing | None = None
    """How the images were normalised, and their classes; None for noise."""


def verification_data(
    data: str | None,
    network: LoadedNetwork,
    precision: Precision = "fp32",
    count: int | None = None,
    *,
    pixels: bool = False,
    samples: Samples | None = None,
) -> VerificationData:
    """Return validation images and labels of a data set, or noise if ``data`` is None.

    ``samples`` take the place of both. With ``pixels`` they are pixels from 0 to 255, else
    normalised images or standard normal noise. Images of a trained network are normalised as in its
    training, others by the data set's statistics. Raises `UsageError` for a data set of other
    classes.
    """
    own = network.preprocessing
    if samples is not None:
        first, *others = samples.verification
        verification = Verification(first, None, tuple(others))
        return VerificationData(verification, f"{len(first)} samples", own)
    if data is None:
        count = count or NOISE_INPUTS
        inputs = network.interface.inputs
        noise = noise_for(network.module, network.interface, count)
        if pixels:
            noise = Verification((64 * noise.images + 128).clip(0, 255).round())
        what = "images" if len(inputs) == 1 and len(inputs[0].shape) == 4 else "inputs"
        source = f"{len(noise.images)} {what} of noise"
        if isinstance(network.module, ForeignModule):
            source += f", beside {network.module.source}"
        return VerificationData(noise, source, own)
    dataset, count = _dataset(data, network.input_shape, own), count or IMAGES[precision]
    images = to_model_input(dataset.valid.images[:count], dataset, pixels)
    if not len(images):
        raise UsageError(f"{data}: has no validation images to verify on")
    labels = dataset.valid.labels[:count]
    return VerificationData(
        Verification(images, labels),
        f"{len(images)} images of {dataset.name}",
        Preprocessing(dataset.mean, dataset.std, dataset.classes, inside=pixels),
    )


def check_kind(
    name: str, module: nn.Module, data: str, input_shape: Shape, pixels: bool | None
) -> None:
    """Raise `UsageError` if ``module`` takes pixels and gets normalised images, or the reverse.

    ``pixels`` None means normalised images that the user did not request.
    """
    if pixels is None:
        check_scale(name, module, input_shape)
    dataset = _dataset(data, input_shape, None)
    images, labels = (array[:KIND_IMAGES] for array in (dataset.valid.images, dataset.valid.labels))
    if len(images):
        normalised, raw = (to_model_input(images, dataset, kind) for kind in (False, True))
        check_accuracy(name, module, BothKinds(normalised, raw, labels), bool(pixels))


def to_model_input(images: np.ndarray, dataset: Dataset, pixels: bool) -> np.ndarray:
    """Return uint8 images as input of a network: pixels in float32, or normalised values."""
    from hwnas.data.datasets import normalise

    return images.astype(np.float32) if pixels else normalise(images, dataset)


def calibration_images(
    data: str, input_shape: Shape, own: Preprocessing | None = None, *, pixels: bool = False
) -> np.ndarray:
    """Return training images ``[N, C, H, W]`` to calibrate an int8 file with.

    They are normalised, or pixels from 0 to 255. Raises `ExportError` if they give no value ranges.
    """
    dataset = _dataset(data, input_shape, own)
    order = np.random.default_rng(0).permutation(len(dataset.train.labels))[:CALIBRATION_IMAGES]
    images = to_model_input(dataset.train.images[order], dataset, pixels)
    try:
        check_images(images)
    except ExportError as error:
        raise ExportError(f"{data}: {error}") from None
    return images


def _dataset(data: str, input_shape: Shape, own: Preprocessing | None) -> Dataset:
    from hwnas.data.datasets import load_dataset

    dataset = load_dataset(data, input_shape=input_shape)
    if own is None:
        return dataset
    if own.labels and own.labels != dataset.classes:
        here, there = (", ".join(names[:MAX_NAMES]) for names in (dataset.classes, own.labels))
        raise UsageError(f"{data}: has the classes {here}, but the network was trained on {there}")
    return dataset.normalised_by(own.mean, own.std)
