"""Maps in TFLite: pools, means, slices, padding, resizing, concatenation."""

from __future__ import annotations

import numpy as np

from hwnas.export.graph.nodes import Concat, Mean, Pad, Pool, Resize, Slice, WindowPool
from hwnas.export.tflite.padding import counts
from hwnas.export.tflite.writer import Writer, axes_of, nhwc, place

_LOWEST = float(np.finfo(np.float32).min)
"""What a maximum never is, unless all are."""


def pool(writer: Writer, node: Pool) -> None:
    axes = writer.file.constant("height and width", np.array([1, 2], np.int32))
    keep = len(node.shape) == 4
    writer.file.operator(
        "MEAN", "ReducerOptions", (*node.inputs, axes), writer.output(node), keepDims=keep
    )


def mean(writer: Writer, node: Mean) -> None:
    places = np.array(sorted(place(axis) for axis in node.axes), np.int32)
    axes = writer.constant(node, "axes", places)
    writer.file.operator(
        "MEAN", "ReducerOptions", (*node.inputs, axes), writer.output(node), keepDims=True
    )


def window_pool(writer: Writer, node: WindowPool) -> None:
    """TFLite's pools leave padding out, but only where SAME puts it: see `Writer.padded`."""
    value, padding = writer.padded(node, node.size, fill=_LOWEST if node.op == "max" else 0.0)
    partial = node.op == "mean" and value != node.inputs[0] and not node.counts_padding
    output = f"{node.name}.sums" if partial else node.name
    writer.file.operator(
        {"max": "MAX_POOL_2D", "mean": "AVERAGE_POOL_2D"}[node.op],
        "Pool2DOptions",
        (value,),
        writer.file.tensor(output, nhwc(node.shape)),
        padding=padding,
        strideH=node.stride[0],
        strideW=node.stride[1],
        filterHeight=node.size[0],
        filterWidth=node.size[1],
    )
    if partial:
        _recount(writer, node, output)


def _recount(writer: Writer, node: WindowPool, means: str) -> None:
    """Zeros that were added explicitly have been counted: scale to the means of the others."""
    sizes = writer.file.shapes[node.inputs[0]][1:3]
    known = [counts(*axis) for axis in zip(sizes, *axes_of(node, node.size), strict=True)]
    scale = node.size[0] * node.size[1] / np.outer(*known)
    scale = writer.constant(node, "scale", scale[None, :, :, None].astype(np.float32))
    writer.file.operator("MUL", "MulOptions", (means, scale), writer.output(node))


def cut_out(writer: Writer, node: Slice) -> None:
    shape, first, step = nhwc(node.shape), nhwc(node.begin), nhwc(node.step)
    begin = writer.constant(node, "begin", np.array(first, np.int32))
    if set(step) == {1}:
        size = writer.constant(node, "size", np.array(shape, np.int32))
        inputs = (*node.inputs, begin, size)
        writer.file.operator("SLICE", "SliceOptions", inputs, writer.output(node))
        return
    ends = [a + (n - 1) * s + 1 for a, n, s in zip(first, shape, step, strict=True)]
    end = writer.constant(node, "end", np.array(ends, np.int32))
    inputs = (*node.inputs, begin, end, writer.constant(node, "step", np.array(step, np.int32)))
    writer.file.operator("STRIDED_SLICE", "StridedSliceOptions", inputs, writer.output(node))


def pad(writer: Writer, node: Pad) -> None:
    sides = writer.constant(node, "sides", np.array(nhwc(node.sides), np.int32))
    inputs, output = (*node.inputs, sides), writer.output(node)
    if node.value is None:
        writer.file.operator("MIRROR_PAD", "MirrorPadOptions", inputs, output, mode=0)
    else:
        writer.margin(inputs, output, node.value)


def resize(writer: Writer, node: Resize) -> None:
    size = writer.constant(node, "size", np.array(node.shape[2:], np.int32))
    half = not node.nearest and not node.align_corners
    writer.file.operator(
        "RESIZE_NEAREST_NEIGHBOR" if node.nearest else "RESIZE_BILINEAR",
        "ResizeNearestNeighborOptions" if node.nearest else "ResizeBilinearOptions",
        (*node.inputs, size),
        writer.output(node),
        version=3 if half else 1,
        alignCorners=node.align_corners,
        halfPixelCenters=half,
    )


def concat(writer: Writer, node: Concat) -> None:
    axis = place(node.axis) if len(node.shape) == 4 else node.axis
    writer.file.operator(
        "CONCATENATION", "ConcatenationOptions", node.inputs, writer.output(node), axis=axis
    )
