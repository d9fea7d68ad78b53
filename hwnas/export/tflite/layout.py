"""TFLite emitters for nodes that only move data: reshape and channel shuffle."""

from __future__ import annotations

import numpy as np

from hwnas.export.graph.nodes import Reshape, Shuffle
from hwnas.export.tflite.model_builder import TfliteBuilder, emits, nhwc

TO_NCHW, TO_NHWC = (0, 3, 1, 2), (0, 2, 3, 1)
"""Permutations of NHWC and of NCHW."""


@emits(Reshape)
def reshape(builder: TfliteBuilder, node: Reshape) -> None:
    """Elements keep PyTorch's order: a map is transposed to NCHW first, and back afterwards.

    The first is left out where the readers take the order of NHWC, or where it moves no data.
    """
    value = node.inputs[0]
    if node.name not in builder.nhwc_flattened and _moves_data(builder.shapes[value], TO_NCHW):
        value = _transpose(builder, value, TO_NCHW, f"{node.name}.first")
    if len(node.shape) < 4 or node.shape[1] == 1 or node.shape[2:] == (1, 1):
        _reshape(builder, value, node.name, nhwc(node.shape))
        return
    _reshape(builder, value, f"{node.name}.reshaped", node.shape)
    _transpose(builder, f"{node.name}.reshaped", TO_NHWC, node.name)


@emits(Shuffle)
def shuffle(builder: TfliteBuilder, node: Shuffle) -> None:
    _, channels, height, width = node.shape
    rows = (1, height * width, node.groups, channels // node.groups)
    split, swapped = f"{node.name}.split", f"{node.name}.swapped"
    _reshape(builder, node.inputs[0], split, rows)
    _transpose(builder, split, (0, 1, 3, 2), swapped)
    _reshape(builder, swapped, node.name, nhwc(node.shape))


def _moves_data(shape: tuple[int, ...], order: tuple[int, ...]) -> bool:
    """Return whether a transpose changes the order of elements; axes of size 1 do not count."""
    axes = [axis for axis, size in enumerate(shape) if size > 1]
    return len(shape) == 4 and axes != sorted(axes, key=order.index)


def _transpose(builder: TfliteBuilder, value: str, order: tuple[int, ...], output: str) -> str:
    axes = builder.constant(f"order {order}", np.array(order, np.int32))
    shape = tuple(builder.shapes[value][axis] for axis in order)
    output = builder.tensor(output, shape)
    builder.operator("TRANSPOSE", "TransposeOptions", (value, axes), output)
    return output


def _reshape(builder: TfliteBuilder, value: str, output: str, shape: tuple[int, ...]) -> None:
    target = builder.constant(f"{output}.shape", np.array(shape, np.int32))
    output = builder.tensor(output, shape)
    builder.operator("RESHAPE", "ReshapeOptions", (value, target), output, newShape=list(shape))
