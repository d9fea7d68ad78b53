"""TFLite emitters for nodes that only move data: reshape, transpose, channel shuffle."""

from __future__ import annotations

import numpy as np

from hwnas.export.graph.nodes import Reshape, Shuffle, Transpose
from hwnas.export.tflite.model_builder import TfliteBuilder, emits

MAX_TRANSPOSED_AXES = 5
"""TFLite's kernels of older versions transpose no more axes."""


@emits(Reshape)
def reshape(builder: TfliteBuilder, node: Reshape) -> None:
    _reshape(builder, node.inputs[0], node.name, node.shape)


@emits(Transpose)
def transpose(builder: TfliteBuilder, node: Transpose) -> None:
    """Axes that stay side by side are moved as one where there are too many."""
    (value,), before = node.inputs, builder.shapes[node.inputs[0]]
    if len(before) <= MAX_TRANSPOSED_AXES:
        _transpose(builder, value, node.order, node.name)
        return
    shape, order = _merged(before, node.order)
    _reshape(builder, value, f"{node.name}.merged", shape)
    _transpose(builder, f"{node.name}.merged", order, f"{node.name}.moved")
    _reshape(builder, f"{node.name}.moved", node.name, node.shape)


@emits(Shuffle)
def shuffle(builder: TfliteBuilder, node: Shuffle) -> None:
    _, height, width, channels = node.shape
    rows = (1, height * width, node.groups, channels // node.groups)
    split, swapped = f"{node.name}.split", f"{node.name}.swapped"
    _reshape(builder, node.inputs[0], split, rows)
    _transpose(builder, split, (0, 1, 3, 2), swapped)
    _reshape(builder, swapped, node.name, node.shape)


def _merged(
    shape: tuple[int, ...], order: tuple[int, ...]
) -> tuple[tuple[int, ...], tuple[int, ...]]:
    """Return shape and order of a transpose, its axes that stay side by side as one."""
    runs: list[list[int]] = []
    for axis in (axis for axis in order if shape[axis] != 1):
        previous = [other for other in range(axis) if shape[other] != 1][-1:]
        if runs and [runs[-1][-1]] == previous:
            runs[-1].append(axis)
        else:
            runs.append([axis])
    ordered = sorted(runs)
    sizes = tuple(int(np.prod([shape[axis] for axis in run])) for run in ordered)
    return sizes, tuple(ordered.index(run) for run in runs)


def _transpose(builder: TfliteBuilder, value: str, order: tuple[int, ...], output: str) -> None:
    axes = builder.constant(f"order {order}", np.array(order, np.int32))
    shape = tuple(builder.shapes[value][axis] for axis in order)
    builder.operator("TRANSPOSE", "TransposeOptions", (value, axes), builder.tensor(output, shape))


def _reshape(builder: TfliteBuilder, value: str, output: str, shape: tuple[int, ...]) -> None:
    target = builder.constant(f"{output}.shape", np.array(shape, np.int32))
    output = builder.tensor(output, shape)
    builder.operator("RESHAPE", "ReshapeOptions", (value, target), output, newShape=list(shape))
