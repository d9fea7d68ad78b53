"""TFLite emitters for feature maps: pooling, reductions, padding, resizing."""

from __future__ import annotations

import numpy as np

from hwnas.export.graph.nodes import Pad, Pool, Reduce, Resize, WindowPool
from hwnas.export.tflite.model_builder import TfliteBuilder, emits, window_axes
from hwnas.export.tflite.padding import pixels_in_window

Sides = tuple[tuple[int, int], ...]
LOWEST_FLOAT = float(np.finfo(np.float32).min)
"""Padding for a maximum: it never wins against a pixel."""


@emits(Pool)
def pool(builder: TfliteBuilder, node: Pool) -> None:
    axes = builder.constant("height and width", np.array([1, 2], np.int32))
    keep = len(node.shape) == 4
    builder.operator(
        "MEAN", "ReducerOptions", (*node.inputs, axes), builder.output(node), keepDims=keep
    )


REDUCTIONS = {
    "mean": "MEAN",
    "sum": "SUM",
    "max": "REDUCE_MAX",
    "min": "REDUCE_MIN",
    "prod": "REDUCE_PROD",
}


@emits(Reduce)
def reduce(builder: TfliteBuilder, node: Reduce) -> None:
    axes = builder.node_constant(node, "axes", np.array(node.axes, np.int32))
    op, inputs = REDUCTIONS[node.op], (*node.inputs, axes)
    builder.operator(op, "ReducerOptions", inputs, builder.output(node), keepDims=True)


@emits(WindowPool)
def window_pool(builder: TfliteBuilder, node: WindowPool) -> None:
    """TFLite's pools ignore the padding of SAME, but count pixels of an explicit PAD."""
    value, padding = builder.padded_input(
        node, node.size, fill=LOWEST_FLOAT if node.op == "max" else 0.0
    )
    rescaled = node.op == "mean" and value != node.inputs[0] and not node.counts_padding
    output = f"{node.name}.sums" if rescaled else node.name
    builder.operator(
        {"max": "MAX_POOL_2D", "mean": "AVERAGE_POOL_2D"}[node.op],
        "Pool2DOptions",
        (value,),
        builder.tensor(output, node.shape),
        padding=padding,
        strideH=node.stride[0],
        strideW=node.stride[1],
        filterHeight=node.size[0],
        filterWidth=node.size[1],
    )
    if rescaled:
        _rescale_means(builder, node, output)


def _rescale_means(builder: TfliteBuilder, node: WindowPool, means: str) -> None:
    """Correct means that counted zeros of an explicit PAD: divide by the number of pixels."""
    sizes = builder.shapes[node.inputs[0]][1:3]
    axes = zip(sizes, *window_axes(node, node.size), strict=True)
    counts = [pixels_in_window(*axis) for axis in axes]
    scale = node.size[0] * node.size[1] / np.outer(*counts)
    scale = builder.node_constant(node, "scale", scale[None, :, :, None].astype(np.float32))
    builder.operator("MUL", "MulOptions", (means, scale), builder.output(node))


MAX_PADDED_AXES = 5
"""TFLite pads no values of more axes."""


@emits(Pad)
def pad(builder: TfliteBuilder, node: Pad) -> None:
    """Neighbouring axes without padding are padded as one where there are too many."""
    (value,), output = node.inputs, builder.output(node)
    if len(node.sides) <= MAX_PADDED_AXES:
        _pad(builder, node, value, output, node.sides)
        return
    before, sides = _merged(builder.shapes[value], node.sides)
    after = tuple(size + sum(side) for size, side in zip(before, sides, strict=True))
    merged = builder.reshaped(value, before, f"{node.name}.merged")
    _pad(builder, node, merged, builder.tensor(f"{node.name}.padded", after), sides)
    builder.reshaped(f"{node.name}.padded", node.shape, output)


def _pad(builder: TfliteBuilder, node: Pad, value: str, output: str, sides: Sides) -> None:
    inputs = value, builder.node_constant(node, "sides", np.array(sides, np.int32))
    if node.value is None:
        builder.operator("MIRROR_PAD", "MirrorPadOptions", inputs, output, mode=0)
    else:
        builder.pad(inputs, output, node.value)


def _merged(shape: tuple[int, ...], sides: Sides) -> tuple[tuple[int, ...], Sides]:
    """Return sizes and padding with each run of axes without padding as one axis."""
    axes: list[tuple[int, tuple[int, int]]] = []
    for size, side in zip(shape, sides, strict=True):
        if axes and side == axes[-1][1] == (0, 0):
            axes[-1] = axes[-1][0] * size, side
        else:
            axes.append((size, side))
    return tuple(size for size, _ in axes), tuple(side for _, side in axes)


@emits(Resize)
def resize(builder: TfliteBuilder, node: Resize) -> None:
    size = builder.node_constant(node, "size", np.array(node.shape[1:3], np.int32))
    half_pixel = not node.nearest and not node.align_corners
    builder.operator(
        "RESIZE_NEAREST_NEIGHBOR" if node.nearest else "RESIZE_BILINEAR",
        "ResizeNearestNeighborOptions" if node.nearest else "ResizeBilinearOptions",
        (*node.inputs, size),
        builder.output(node),
        version=3 if half_pixel else 1,
        alignCorners=node.align_corners,
        halfPixelCenters=half_pixel,
    )
