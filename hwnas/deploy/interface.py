"""Inputs and outputs of a model file: ``interface.json`` of a bundle, which its ``run.py``
reads."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import msgspec
import numpy as np

from hwnas.architecture.runtimes import COMPILED, RuntimeName
from hwnas.data.images import Shape, normalise_pixels
from hwnas.devices.worker.model import InputTensor, Model, input_shapes
from hwnas.errors import UsageError
from hwnas.export.recipe import format_of
from hwnas.export.verification.run_model import open_file, runtime_errors
from hwnas.files import read_json

Array = np.ndarray[Any, Any]

NAME = "interface.json"


class TensorInfo(msgspec.Struct, frozen=True):
    """An input or output of a file, in the file's order of axes."""

    name: str
    shape: tuple[int | str, ...]
    """With the batch; a text is the name of a free axis."""
    dtype: str
    """Name of the type in numpy; 8-bit values with a scale count as float32."""


class ImageInput(msgspec.Struct, frozen=True):
    """Normalisation of the only input, an image: ``(pixel / scale - mean) / std`` for each
    channel."""

    shape: Shape
    """Channels, height, width."""
    mean: tuple[float, ...] = (0.0,)
    std: tuple[float, ...] = (1.0,)
    scale: float = 1.0

    def values(self, pixels: Array) -> Array:
        """Return the input, in PyTorch's order of axes, of pixels ``[N, C, H, W]``."""
        return normalise_pixels(pixels, self.mean, self.std, self.scale)


class FileInterface(msgspec.Struct, frozen=True):
    """Inputs and outputs of a model file."""

    model: str
    """Name of the file."""
    runtime: RuntimeName
    layout: str
    """Order of axes of images, ``NCHW`` or ``NHWC``."""
    inputs: tuple[TensorInfo, ...]
    outputs: tuple[TensorInfo, ...]
    image: ImageInput | None = None
    """None if the file takes no image, or if its normalisation is unknown."""


def read_interface(folder: Path) -> FileInterface:
    """Read the interface of a bundle. Raises `InvalidFile`."""
    return read_json(folder / NAME, FileInterface)


def image_shape(path: Path, model: Model, stated: Sequence[Any] = ()) -> Shape | None:
    """Return the shape of the images that a file takes, or None if it takes something else.

    ``stated`` are shapes of free axes, as for `input_shapes`.
    """
    if len(model.inputs) != 1 or len(model.inputs[0].shape) != 4:
        return None
    [shape] = input_shapes(str(path), model.inputs, 1 if _free(model.inputs[0]) else None, stated)
    channels, height, width = COMPILED[format_of(path)].image_shape(shape)
    return (channels, height, width) if channels in (1, 3) and shape[0] == 1 else None


def run_stored(path: Path, inputs: Sequence[Array]) -> dict[str, Array]:
    """Return the outputs of a file by name, ``[N, ...]``, for N values of each input.

    Values have the file's order of axes and its batch: inputs are usually ``[N, 1, ...]``. Raises
    `InvalidFile` if the runtime refuses the file.
    """
    model = open_file(path)
    with runtime_errors(path):
        runs: list[list[Array]] = []
        for place in range(len(inputs[0])):
            model.set_inputs([array[place] for array in inputs])
            model.run()
            runs.append(model.outputs())
        if any(value.dtype.kind not in "fiub" for value in runs[0]):
            raise UsageError(f"{path}: gives values that are no numbers; a bundle holds numbers")
        return {
            name: np.stack([run[place] for run in runs])
            for place, name in enumerate(model.output_names)
        }


def described(inputs: Sequence[InputTensor], outputs: dict[str, Array]) -> Any:
    """Return the descriptions of inputs, and of the outputs of `run_stored`."""
    taken = tuple(TensorInfo(each.name, each.shape, each.dtype) for each in inputs)
    given = tuple(
        TensorInfo(name, values.shape[1:], values.dtype.name) for name, values in outputs.items()
    )
    return taken, given


def _free(tensor: InputTensor) -> bool:
    return isinstance(tensor.shape[0], str)
