"""Verifies a file for images of any height and width at sizes other than that of the module."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from torch import nn

from hwnas.architecture.artifact import Precision
from hwnas.errors import ExportError
from hwnas.export.graph.interface import Interface
from hwnas.export.graph.resized import Offset, at, size_of
from hwnas.export.verification.images import Verification
from hwnas.export.verification.metrics import Array
from hwnas.export.verification.module_outputs import module_outputs
from hwnas.export.verification.run_model import run_file
from hwnas.export.verification.verify import compare

MAX_RESIZED_INPUTS = 2
"""Number of inputs that are compared at each other size."""


def verify_sizes(
    path: Path,
    module: nn.Module,
    verification: Verification,
    interface: Interface,
    offset: Offset,
    precision: Precision = "fp32",
) -> None:
    """Compare a file with ``module`` at two larger heights and widths, on repeated images.

    Raises `ExportError` as `verify`, with the size.
    """
    for other in larger(interface, offset):
        arrays = tuple(
            _tiled(array[:MAX_RESIZED_INPUTS], spec.item_shape)
            for array, spec in zip(verification.inputs, other.inputs, strict=True)
        )
        given = Verification(arrays[0], None, arrays[1:])
        try:
            expected = module_outputs(module, other, arrays)
            outputs = run_file(path, arrays, other.input_names)
            compare(path, module, other, outputs, expected, given, precision)
        except ExportError as error:
            height, width = size_of(other)
            raise ExportError(f"{error} (images of {height}x{width})") from error


def larger(interface: Interface, offset: Offset) -> list[Interface]:
    """Return how a module is called at the two larger sizes at which a file is compared."""
    rows, columns = offset
    return [at(interface, offset), at(interface, (3 * rows, 2 * columns))]


def _tiled(array: Array, shape: tuple[int, ...]) -> Array:
    """Return values ``[N, ...]`` in a shape, repeated where it is larger."""
    for axis, size in enumerate(shape, 1):
        array = array.take(np.arange(size) % array.shape[axis], axis)
    return array
