"""What moves no number or only moves them, in TFLite: reshape and channel shuffle."""

from __future__ import annotations

import numpy as np

from hwnas.export.graph.nodes import Reshape, Shuffle
from hwnas.export.tflite.writer import Writer, nhwc


def reshape(writer: Writer, node: Reshape) -> None:
    """Through PyTorch's order of axes, unless what follows takes the other, or it is one."""
    value = node.inputs[0]
    if node.name not in writer.flat:
        value = _transposed(writer, value, (0, 3, 1, 2), f"{node.name}.first")
    if len(node.shape) < 4 or node.shape[1] == 1 or node.shape[2:] == (1, 1):
        _reshaped(writer, value, node.name, nhwc(node.shape))
        return
    first = f"{node.name}.reshaped"
    _reshaped(writer, value, first, node.shape)
    _transposed(writer, first, (0, 2, 3, 1), node.name)


def shuffle(writer: Writer, node: Shuffle) -> None:
    _, channels, height, width = node.shape
    rows = (1, height * width, node.groups, channels // node.groups)
    split, swapped = f"{node.name}.split", f"{node.name}.swapped"
    _reshaped(writer, node.inputs[0], split, rows)
    _transposed(writer, split, (0, 1, 3, 2), swapped)
    _reshaped(writer, swapped, node.name, nhwc(node.shape))


def _transposed(writer: Writer, value: str, order: tuple[int, ...], output: str) -> str:
    """Return ``value`` with 4 axes in another order; itself where that changes nothing."""
    shape = writer.file.shapes[value]
    large = [axis for axis in range(len(shape)) if shape[axis] > 1]
    if output.endswith(".first") and (len(shape) < 4 or large == sorted(large, key=order.index)):
        return value
    axes = writer.file.constant(f"order {order}", np.array(order, np.int32))
    new = tuple(shape[axis] for axis in order)
    writer.file.operator(
        "TRANSPOSE", "TransposeOptions", (value, axes), writer.file.tensor(output, new)
    )
    return output


def _reshaped(writer: Writer, value: str, output: str, shape: tuple[int, ...]) -> None:
    wanted = writer.file.constant(f"{output}.shape", np.array(shape, np.int32))
    writer.file.operator(
        "RESHAPE", "ReshapeOptions", (value, wanted), writer.file.tensor(output, shape),
        newShape=list(shape),
    )  # fmt: skip
