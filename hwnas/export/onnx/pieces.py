"""ONNX emitters for pieces of values: slices, gathers, expansions, concatenation, casts."""

from __future__ import annotations

import numpy as np

from hwnas.errors import ExportError
from hwnas.export.graph.nodes import Cast, Concat, Expand, Gather, Lookup, ScatterAdd, Slice, Take
from hwnas.export.onnx.model_builder import INT64, OnnxBuilder, emits, onnx_type

OLDEST_OPSET_OF_SUMS = 16
"""Since then ``ScatterElements`` adds."""


@emits(Slice)
def slice_(builder: OnnxBuilder, node: Slice) -> None:
    """Only the axes that the slice shortens are written."""
    (value,) = node.inputs
    ranges = [
        (axis, begin, _end(builder, node, axis), step)
        for axis, (begin, step) in enumerate(zip(node.begin, node.step, strict=True))
        if builder.sizes(value, axis) != builder.sizes(node.name, axis)
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


def _end(builder: OnnxBuilder, node: Slice, axis: int) -> int:
    """Return where a slice of an axis ends; of a free axis counted from its end."""
    (value,), begin, step = node.inputs, node.begin[axis], node.step[axis]
    end = begin + (node.shape[axis] - 1) * step + 1
    if not builder.is_free(node.name, axis):
        return end
    rest = builder.shapes[value][axis] - end
    return np.iinfo(np.int64).max if rest < step else -rest


@emits(Gather)
def gather(builder: OnnxBuilder, node: Gather) -> None:
    indices = builder.node_constant(node, "indices", np.array(node.indices, np.int64))
    builder.add("Gather", (*node.inputs, indices), node.name, axis=node.axis)


@emits(Lookup)
def lookup(builder: OnnxBuilder, node: Lookup) -> None:
    table = builder.weight(node, node.weight, axis=0)
    builder.add("Gather", (table, *node.inputs), node.name, axis=0)


@emits(Take)
def take(builder: OnnxBuilder, node: Take) -> None:
    rows, places = node.inputs
    integers, tuples = f"{node.name}.integers", f"{node.name}.tuples"
    builder.add("Cast", (places,), integers, to=INT64)
    last = builder.constant("last axis", np.array([-1], np.int64))
    builder.add("Unsqueeze", (integers, last), tuples)
    builder.add("GatherND", (rows, tuples), node.name, batch_dims=len(node.shape) - 2)


@emits(ScatterAdd)
def scatter_add(builder: OnnxBuilder, node: ScatterAdd) -> None:
    """Sums exist from opset 16 on."""
    rows, places = node.inputs
    if builder.opset < OLDEST_OPSET_OF_SUMS:
        raise ExportError(
            f"{node.name}: sums at computed places need opset {OLDEST_OPSET_OF_SUMS} or later"
        )
    names = ("integers", "column", "spread", "zeros")
    integers, column, spread, zeros = (f"{node.name}.{name}" for name in names)
    builder.add("Cast", (places,), integers, to=INT64)
    last = builder.constant("last axis", np.array([-1], np.int64))
    builder.add("Unsqueeze", (integers, last), column)
    builder.add("Shape", (rows,), f"{node.name}.sizes")
    builder.add("Expand", (column, f"{node.name}.sizes"), spread)
    builder.add("Expand", (builder.constant("zero", np.float32(0)), _shape(builder, node)), zeros)
    fields = {"axis": len(node.shape) - 2, "reduction": "add"}
    builder.add("ScatterElements", (zeros, spread, rows), node.name, **fields)


def _shape(builder: OnnxBuilder, node: ScatterAdd) -> str:
    """Return the shape of the sums, of the batch that the rows have."""
    if not builder.dynamic_batch:
        return builder.node_constant(node, "shape", np.array(node.shape, np.int64))
    batch, shape = f"{node.name}.batch", f"{node.name}.shape"
    builder.add("Shape", (node.inputs[0],), batch, start=0, end=1)
    sizes = builder.node_constant(node, "sizes", np.array(node.shape[1:], np.int64))
    builder.add("Concat", (batch, sizes), shape, axis=0)
    return shape


@emits(Cast)
def cast(builder: OnnxBuilder, node: Cast) -> None:
    from onnx import TensorProto

    number = TensorProto.DataType.Value(onnx_type(node.dtype))
    builder.add("Cast", node.inputs, node.name, to=number)


@emits(Expand)
def expand(builder: OnnxBuilder, node: Expand) -> None:
    (value,) = node.inputs
    sizes = [
        1  # as large as the value is
        if builder.is_free(node.name, axis)
        and builder.sizes(node.name, axis) == builder.sizes(value, axis)
        else size
        for axis, size in enumerate(node.shape)
    ]
    shape = builder.node_constant(node, "shape", np.array(sizes, np.int64))
    builder.add("Expand", (value, shape), node.name)


@emits(Concat)
def concat(builder: OnnxBuilder, node: Concat) -> None:
    has_constant = any(name in builder.initializers for name in node.inputs)
    if has_constant and builder.dynamic_batch:
        raise ExportError(
            f"{node.name}: a constant cannot be concatenated to values with a dynamic batch"
        )
    builder.add("Concat", node.inputs, node.name, axis=node.axis)
