"""Values of inputs that a user has stored in an ``.npz`` file, one array for each input."""

from __future__ import annotations

import zipfile
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np

from hwnas.errors import InvalidFile
from hwnas.export.graph.interface import ModuleInput
from hwnas.export.verification.metrics import Array

VERIFIED_SHARE = 4
"""One of this number of samples verifies an int8 file; on the others its ranges are measured."""


class Samples(NamedTuple):
    """Values of each input, ``[N, ...]``, to verify a file on, and to calibrate int8 with."""

    verification: tuple[Array, ...]
    calibration: tuple[Array, ...]


def read_samples(path: Path, inputs: Sequence[ModuleInput], *, int8: bool = False) -> Samples:
    """Return the samples of a file for a network's inputs, in PyTorch's order of axes.

    For ``int8``, different samples are used for verification and for calibration. Raises
    `InvalidFile`.
    """
    arrays = read_values(path, [spec.name for spec in inputs], [spec.shape for spec in inputs])
    values = tuple(
        _typed(path, spec, array).reshape(len(array), *spec.item_shape)
        for spec, array in zip(inputs, arrays, strict=True)
    )
    count = len(values[0])
    if not int8:
        return Samples(values, ())
    if count < 2:
        raise InvalidFile(
            str(path), "has 1 sample; int8 needs several: some to calibrate with, others to verify"
        )
    verified = np.arange(count) % VERIFIED_SHARE == 0
    return Samples(
        tuple(array[verified] for array in values), tuple(array[~verified] for array in values)
    )


def read_values(
    path: Path, names: Sequence[str], shapes: Sequence[tuple[int, ...]]
) -> tuple[Array, ...]:
    """Return the arrays of a file in the order of ``names``, each as ``[N, *shape]``.

    They are single values in the shape of the input, or N of them. Raises `InvalidFile`.
    """
    try:
        with np.load(path, allow_pickle=False) as file:
            arrays = {name: file[name] for name in file.files}
    except (OSError, ValueError, zipfile.BadZipFile, AttributeError) as error:
        raise InvalidFile(str(path), f"not a readable .npz file ({error})") from None
    if set(arrays) != set(names):
        raise InvalidFile(
            str(path), f"has {', '.join(arrays)}; expected an array for each of {', '.join(names)}"
        )
    values = tuple(
        _counted(path, name, shape, arrays[name]) for name, shape in zip(names, shapes, strict=True)
    )
    if len({len(array) for array in values}) > 1:
        raise InvalidFile(str(path), "has another number of values for each input")
    return values


def _counted(path: Path, name: str, shape: tuple[int, ...], array: Array) -> Array:
    """Return an array as ``[N, *shape]``."""
    for whole in ((1, *shape), (len(array), *shape)) if array.ndim else ((1, *shape),):
        if array.size == int(np.prod(whole)) and array.size and array.dtype.kind in "fiub":
            without_batch = (len(array), *shape[1:]) if array.ndim else ()
            if array.shape in (shape, whole, without_batch):
                return array.reshape(whole)
    raise InvalidFile(
        str(path),
        f"{name} is {array.dtype} {list(array.shape)}; expected {list(shape)}, or several of them",
    )


def _typed(path: Path, spec: ModuleInput, array: Array) -> Array:
    """Return values in the type of an input."""
    if spec.dtype != "float32" and array.dtype.kind == "f":
        raise InvalidFile(str(path), f"{spec.name} is {array.dtype}; expected {spec.dtype}")
    return array.astype(spec.dtype)
