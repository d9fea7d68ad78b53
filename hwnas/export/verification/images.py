"""The inputs that a file is verified on."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from hwnas.architecture.artifact import Precision
from hwnas.export.graph.interface import ModuleInput
from hwnas.export.verification.metrics import Array

IMAGES: dict[Precision, int] = {
    "fp32": 16,
    "fp16": 16,
    "int8-weights": 256,
    "int8-dynamic": 256,
    "int8": 256,
}
"""Number of images by default: files of 8 bits are judged by the predicted classes, one per image.
"""

NOISE_INPUTS = 16
"""Default number of inputs of noise, whose classes are not compared."""


class Verification(NamedTuple):
    """Inputs on which a file must agree with PyTorch, and the labels of images."""

    images: Array
    """Values of the first input, ``[N, ...]``: usually normalised images ``[N, C, H, W]``."""
    labels: Array | None = None
    """``[N]``; None: the classes that PyTorch predicts."""
    others: tuple[Array, ...] = ()
    """Values of the other inputs, in order, ``[N, ...]`` each."""

    @property
    def inputs(self) -> tuple[Array, ...]:
        """Values of all inputs."""
        return (self.images, *self.others)


def noise_inputs(
    inputs: Sequence[ModuleInput], count: int | None = None, *, below: int = 2
) -> Verification:
    """Return standard normal noise for each input; integers from 0, less than ``below``.

    uint8 inputs are pixels, from 0 to 255.
    """
    rng, arrays = np.random.default_rng(0), list[Array]()
    for spec in inputs:
        shape = (count or NOISE_INPUTS, *spec.item_shape)
        if spec.dtype == "float32":
            arrays.append(rng.standard_normal(shape).astype(np.float32))
        else:
            high = 256 if spec.dtype == "uint8" else 2 if spec.dtype == "bool" else below
            arrays.append(rng.integers(0, high, shape).astype(spec.dtype))
    return Verification(arrays[0], None, tuple(arrays[1:]))
