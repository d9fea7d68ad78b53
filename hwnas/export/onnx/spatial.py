"""ONNX emitters for feature maps: pooling, slices, padding, resizing, concatenation."""

from __future__ import annotations

from typing import Any

import numpy as np

from hwnas.errors import ExportError
from hwnas.export.graph.nodes import Concat, Mean, Pad, Pool, Resize, Slice, WindowPool
from hwnas.export.onnx.model_builder import OnnxBuilder, emits


@emits(Pool)
def pool(builder: OnnxBuilder, node: Pool) -> None:
    if len(node.shape) == 4:
        builder.add("GlobalAveragePool", node.inputs, node.name)
    else:
        builder.add("GlobalAveragePool", node.inputs, f"{node.name}.pooled")
        builder.add("Flatten", (f"{node.name}.pooled",), node.name)


@emits(Mean)
def mean(builder: OnnxBuilder, node: Mean) -> None:
    add_mean(builder, node.inputs, node.name, node.axes)


def add_mean(
    builder: OnnxBuilder, inputs: tuple[str, ...], output: str, axes: tuple[int, ...]
) -> str:
    """Add a mean over ``axes`` and return its name; from opset 18 on the axes are an input."""
    if builder.opset < 18:
        builder.add("ReduceMean", inputs, output, axes=axes, keepdims=1)
    else:
        axes_input = builder.constant(f"{output}.axes", np.array(axes, np.int64))
        builder.add("ReduceMean", (*inputs, axes_input), output, keepdims=1)
    return output


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


@emits(Slice)
def slice_(builder: OnnxBuilder, node: Slice) -> None:
    """Only the axes that the slice shortens are written."""
    input_shape = builder.shapes[node.inputs[0]]
    axes = zip(node.begin, node.step, node.shape, input_shape, strict=True)
    ranges = [
        (axis, begin, begin + (size - 1) * step + 1, step)
        for axis, (begin, step, size, input_size) in enumerate(axes)
        if size != input_size
    ]
    if not ranges:
        builder.add("Identity", node.inputs, node.name)
        return
    axes, begins, ends, steps = (
        np.array(numbers, np.int64) for numbers in zip(*ranges, strict=True)
    )
    bounds = {"begin": begins, "end": ends, "axes": axes}
    if (steps != 1).any():
        bounds["step"] = steps
    inputs = [builder.node_constant(node, name, values) for name, values in bounds.items()]
    builder.add("Slice", (*node.inputs, *inputs), node.name)


@emits(Pad)
def pad(builder: OnnxBuilder, node: Pad) -> None:
    """ONNX lists the amounts at the start of every axis, then those at the end."""
    pads = np.array([side for end in zip(*node.sides, strict=True) for side in end], np.int64)
    inputs = [*node.inputs, builder.node_constant(node, "sides", pads)]
    if node.value is not None:
        inputs.append(builder.node_constant(node, "value", np.float32(node.value)))
    mode = "reflect" if node.value is None else "constant"
    builder.add("Pad", tuple(inputs), node.name, mode=mode)


@emits(Resize)
def resize(builder: OnnxBuilder, node: Resize) -> None:
    mode: dict[str, Any]
    if node.nearest:
        coordinates = "asymmetric"
        mode = {"mode": "nearest", "nearest_mode": "floor"}
    else:
        coordinates = "align_corners" if node.align_corners else "half_pixel"
        mode = {"mode": "linear"}
    if not builder.dynamic_batch:
        sizes = builder.node_constant(node, "sizes", np.array(node.shape, np.int64))
    elif builder.opset >= 18:
        sizes = builder.node_constant(node, "sizes", np.array(node.shape[2:], np.int64))
        mode["axes"] = (2, 3)
    else:
        raise ExportError(f"{node.name}: resizing with a dynamic batch needs opset 18 or later")
    inputs = (*node.inputs, "", "", sizes)
    builder.add("Resize", inputs, node.name, coordinate_transformation_mode=coordinates, **mode)


@emits(Concat)
def concat(builder: OnnxBuilder, node: Concat) -> None:
    has_constant = any(name in builder.initializers for name in node.inputs)
    if has_constant and builder.dynamic_batch:
        raise ExportError(
            f"{node.name}: a constant cannot be concatenated to values with a dynamic batch"
        )
    builder.add("Concat", node.inputs, node.name, axis=node.axis)
