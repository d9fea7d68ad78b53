"""TFLite emitters for nodes that only move data: reshape, transpose, channel shuffle."""

from __future__ import annotations

import numpy as np

from hwnas.export.graph.nodes import Reshape, Shuffle, Transpose
from hwnas.export.tflite.model_builder import TfliteBuilder, emits

MAX_TRANSPOSED_AXES = 5
"""TFLite's kernels of older versions transpose no more axes."""


@emits(Reshape)
def reshape(builder: TfliteBuilder, node: Reshape) -> None:
    builder.reshaped(node.inputs[0], node.shape, node.name)


@emits(Transpose)
def transpose(builder: TfliteBuilder, node: Transpose) -> None:
    """Axes that stay side by side are moved as one where there are too many."""
    (value,), before = node.inputs, builder.shapes[node.inputs[0]]
    if len(before) <= MAX_TRANSPOSED_AXES:
        _transpose(builder, value, node.order, node.name)
        return
    shape, order = _merged(before, node.order)
    builder.reshaped(value, shape, f"{node.name}.merged")
    _transpose(builder, f"{node.name}.merged", order, f"{node.name}.moved")
    builder.reshaped(f"{node.name}.moved", node.shape, node.name)


@emits(Shuffle)
def shuffle(builder: TfliteBuilder, node: Shuffle) -> None:
    _, height, width, channels = node.shape
    rows = (1, height * width, node.groups, channels // node.groups)
    split, swapped = f"{node.name}.split", f"{node.name}.swapped"
    builder.reshaped(node.inputs[0], rows, split)
    _transpose(builder, split, (0, 1, 3, 2), swapped)
    builder.reshaped(swapped, node.shape, node.name)


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
