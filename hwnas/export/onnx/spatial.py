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
    if builder.is_free(node.name, 2) or builder.is_free(node.name, 3):
        _resize_any_size(builder, node, coordinates, mode)
        return
    if not builder.dynamic_batch:
        sizes = builder.node_constant(node, "sizes", np.array(node.shape, np.int64))
    elif builder.opset >= 18:
        sizes = builder.node_constant(node, "sizes", np.array(node.shape[2:], np.int64))
        mode["axes"] = (2, 3)
    else:
        raise ExportError(f"{node.name}: resizing with a dynamic batch needs opset 18 or later")
    inputs = (*node.inputs, "", "", sizes)
    builder.add("Resize", inputs, node.name, coordinate_transformation_mode=coordinates, **mode)


def _resize_any_size(
    builder: OnnxBuilder, node: Resize, coordinates: str, mode: dict[str, Any]
) -> None:
    """Resize by a fixed factor, or to the size of a value before it."""
    (value,), wanted = node.inputs, [builder.sizes(node.name, axis) for axis in (2, 3)]
    factors = [
        {after / before for before, after in zip(builder.sizes(value, axis), sizes, strict=True)}
        for axis, sizes in zip((2, 3), wanted, strict=True)
    ]
    mode = {"coordinate_transformation_mode": coordinates, **mode}
    if all(len(factor) == 1 for factor in factors):
        scales = np.array([1, 1, *(factor.pop() for factor in factors)], np.float32)
        scales_name = builder.node_constant(node, "scales", scales)
        builder.add("Resize", (value, "", scales_name), node.name, **mode)
        return
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
    builder.add("Shape", (value,), first, start=0, end=2)
    builder.add("Shape", (source,), last, start=2, end=4)
    builder.add("Concat", (first, last), f"{node.name}.sizes", axis=0)
    builder.add("Resize", (value, "", "", f"{node.name}.sizes"), node.name, **mode)
