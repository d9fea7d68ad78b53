"""ONNX emitters for feature maps: pooling, padding, resizing."""

from __future__ import annotations

from typing import Any

import numpy as np

from hwnas.errors import ExportError
from hwnas.export.graph.nodes import GridSample, Pad, Pool, Resize, WindowPool
from hwnas.export.onnx.model_builder import OnnxBuilder, emits


@emits(Pool)
def pool(builder: OnnxBuilder, node: Pool) -> None:
    if len(node.shape) == 4:
        builder.add("GlobalAveragePool", node.inputs, node.name)
    else:
        builder.add("GlobalAveragePool", node.inputs, f"{node.name}.pooled")
        builder.add("Flatten", (f"{node.name}.pooled",), node.name)


@emits(WindowPool)
def window_pool(builder: OnnxBuilder, node: WindowPool) -> None:
    (top, bottom), (left, right) = node.padding
    attributes: dict[str, Any] = (
        {} if node.op == "max" else {"count_include_pad": int(node.counts_padding)}
    )
    builder.add(
        {"max": "MaxPool", "mean": "AveragePool"}[node.op],
        node.inputs,
        node.name,
        kernel_shape=node.size,
        strides=node.stride,
        pads=(top, left, bottom, right),
        **attributes,
    )


@emits(Pad)
def pad(builder: OnnxBuilder, node: Pad) -> None:
    """ONNX lists the amounts at the start of every axis, then those at the end."""
    pads = np.array([side for end in zip(*node.sides, strict=True) for side in end], np.int64)
    inputs = [*node.inputs, builder.node_constant(node, "sides", pads)]
    if node.value is not None:
        inputs.append(builder.node_constant(node, "value", np.float32(node.value)))
    mode = "reflect" if node.value is None else "constant"
    builder.add("Pad", tuple(inputs), node.name, mode=mode)


@emits(GridSample)
def grid_sample(builder: OnnxBuilder, node: GridSample) -> None:
    """``GridSample`` exists from opset 16 on; opset 20 has other names for its modes."""
    if builder.opset < 16:
        raise ExportError(f"{node.name}: grid_sample needs opset 16 or later")
    mode = node.mode
    if builder.opset >= 20:
        mode = {"bilinear": "linear", "bicubic": "cubic"}.get(mode, mode)
    settings = {"mode": mode, "padding_mode": node.padding}
    builder.add(
        "GridSample", node.inputs, node.name, align_corners=int(node.align_corners), **settings
    )


@emits(Resize)
def resize(builder: OnnxBuilder, node: Resize) -> None:
    mode: dict[str, Any]
    if node.nearest:
        coordinates = "asymmetric"
        mode = {"mode": "nearest", "nearest_mode": "floor"}
    else:
        coordinates = "align_corners" if node.align_corners else "half_pixel"
        mode = {"mode": "linear"}
    mode["coordinate_transformation_mode"] = coordinates
    if node.nearest or not _moves_through_resize(builder, node.inputs[0]):
        _resize(builder, node, node.name, node.inputs[0], node.shape[:2], mode)
        return
    value, resized, channels = f"{node.name}.maps", f"{node.name}.resized", node.shape[1]
    folded = (1,) if channels == 1 else (channels, 1)
    builder.add("Reshape", (node.inputs[0], _map_sizes(builder, node)), value)
    _resize(builder, node, resized, value, folded, mode)
    if channels == 1:
        axis = builder.constant("channel axis", np.array([1], np.int64))
        builder.add("Unsqueeze", (resized, axis), node.name)
    else:
        whole = builder.node_constant(node, "whole", np.array([-1, channels, 0, 0], np.int64))
        builder.add("Reshape", (resized, whole), node.name)


def _map_sizes(builder: OnnxBuilder, node: Resize) -> str:
    """Return the sizes with which channels are images of one channel, and a single one is left out:
    with it, the reshape would change nothing."""
    (value,), channels = node.inputs, node.shape[1]
    sizes = [-1, 1, 0, 0] if channels > 1 else [-1, *builder.shapes[value][2:]]
    if channels > 1 or not (builder.is_free(value, 2) or builder.is_free(value, 3)):
        return builder.node_constant(node, "rows", np.array(sizes, np.int64))
    axes = builder.constant("axes without channels", np.array([0, 2, 3], np.int64))
    builder.add("Shape", (value,), f"{node.name}.before")
    builder.add("Gather", (f"{node.name}.before", axes), f"{node.name}.rows")
    return f"{node.name}.rows"


MOVED_SAFELY = [0, 3, 1, 2]
"""From channels last: behind it a resize has its sizes in the middle, which linear modes permit."""
OPAQUE = {"Conv", "ConvTranspose", "Flatten", "Gemm", "MatMul", "Reshape"}
"""Operators that ONNX Runtime moves no change of the order of axes through."""


def _moves_through_resize(builder: OnnxBuilder, name: str) -> bool:
    """Return whether ONNX Runtime may move a change of the order of axes behind a resize.

    Its optimiser moves a ``Transpose`` from channels first to channels last through a linear
    ``Resize``, whose sizes are then on axes that its kernels refuse. A ``Reshape`` that makes
    channels images is in the way.
    """
    before = builder.before(name, OPAQUE)
    turns = [node for node in before if node.op_type == "Transpose"]
    orders = [list(node.attribute[0].ints) for node in turns]
    return len(turns) > 1 or any(order != MOVED_SAFELY for order in orders)


def _resize(
    builder: OnnxBuilder,
    node: Resize,
    name: str,
    value: str,
    maps: tuple[int, ...],
    mode: dict[str, Any],
) -> None:
    """Resize ``value``, whose axes before height and width have the sizes ``maps``."""
    if builder.is_free(node.name, 2) or builder.is_free(node.name, 3):
        inputs = (value, *_free_sizes(builder, node, value, maps))
    else:
        inputs = (value, "", "", _fixed_sizes(builder, node, value, (*maps, *node.shape[2:])))
    builder.add("Resize", inputs, name, **mode)


def _fixed_sizes(builder: OnnxBuilder, node: Resize, value: str, shape: tuple[int, ...]) -> str:
    """Return the shape of the result, with the first axis of ``value`` where the batch is dynamic.

    The attribute ``axes``, which states the last two alone, is not changed by ONNX Runtime when it
    moves a ``Transpose`` through the operator.
    """
    if not builder.dynamic_batch:
        return builder.node_constant(node, "sizes", np.array(shape, np.int64))
    axis = builder.constant("first axis", np.array([0], np.int64))
    builder.add("Shape", (value,), f"{node.name}.shape")
    builder.add("Gather", (f"{node.name}.shape", axis), f"{node.name}.batch")
    others = builder.node_constant(node, "sizes", np.array(shape[1:], np.int64))
    builder.add("Concat", (f"{node.name}.batch", others), f"{node.name}.sizes", axis=0)
    return f"{node.name}.sizes"


def _free_sizes(
    builder: OnnxBuilder, node: Resize, value: str, maps: tuple[int, ...]
) -> tuple[str, ...]:
    """Return inputs that state a fixed factor, or the size of a value before the node."""
    (before,), wanted = node.inputs, [builder.sizes(node.name, axis) for axis in (2, 3)]
    factors = [
        {after / size for size, after in zip(builder.sizes(before, axis), sizes, strict=True)}
        for axis, sizes in zip((2, 3), wanted, strict=True)
    ]
    if all(len(factor) == 1 for factor in factors):
        scales = np.array([1] * len(maps) + [factor.pop() for factor in factors], np.float32)
        return "", builder.node_constant(node, "scales", scales)
    source = next(
        (
            name
            for name in builder.written()
            if len(builder.shapes[name]) == 4
            and [builder.sizes(name, axis) for axis in (2, 3)] == wanted
        ),
        None,
    )
    if source is None:
        raise ExportError(
            f"{node.name}: resizes to a size that follows from no value before it; height and "
            "width cannot be dynamic"
        )
    first, last = f"{node.name}.channels", f"{node.name}.pixels"
    builder.add("Shape", (value,), first, start=0, end=len(maps))
    builder.add("Shape", (source,), last, start=2, end=4)
    builder.add("Concat", (first, last), f"{node.name}.sizes", axis=0)
    return "", "", f"{node.name}.sizes"
