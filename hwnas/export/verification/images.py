"""The images that a file is verified on."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from hwnas.architecture.artifact import Precision
from hwnas.export.verification.metrics import Array

IMAGES: dict[Precision, int] = {"fp32": 16, "int8": 256}
"""Number of images by default: an int8 file is judged by its predicted classes, one per image."""


class Verification(NamedTuple):
    """Images on which a file must agree with PyTorch, and their labels."""

    images: Array
    """Inputs of the module, ``[N, C, H, W]``: normalised images as a rule."""
    labels: Array | None = None
    """``[N]``; None: the classes that PyTorch predicts."""


def noise_images(
    input_shape: tuple[int, int, int], precision: Precision = "fp32", count: int | None = None
) -> Verification:
    """Return standard normal noise, always the same."""
    shape = (count or IMAGES[precision], *input_shape)
    return Verification(np.random.default_rng(0).standard_normal(shape).astype(np.float32))
