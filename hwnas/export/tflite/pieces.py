"""TFLite emitters for pieces of values: slices, gathers, expansions, concatenation, casts."""

from __future__ import annotations

from math import prod

import numpy as np

from hwnas.export.graph.nodes import (
    ArgExtreme,
    Cast,
    Concat,
    Expand,
    Gather,
    Lookup,
    ScatterAdd,
    Slice,
    Take,
    TopK,
)
from hwnas.export.tflite.model_builder import TfliteBuilder, emits

GATHERS_IN_BATCHES = 5
"""First version of ``GATHER`` that keeps leading axes apart."""


@emits(Slice)
def slice_(builder: TfliteBuilder, node: Slice) -> None:
    shape, first, step = node.shape, node.begin, node.step
    begin = builder.node_constant(node, "begin", np.array(first, np.int32))
    if set(step) == {1}:
        size = builder.node_constant(node, "size", np.array(shape, np.int32))
        inputs = (*node.inputs, begin, size)
        builder.operator("SLICE", "SliceOptions", inputs, builder.output(node))
        return
    ends = [
        start + (size - 1) * stride + 1
        for start, size, stride in zip(first, shape, step, strict=True)
    ]
    end = builder.node_constant(node, "end", np.array(ends, np.int32))
    inputs = (
        *node.inputs,
        begin,
        end,
        builder.node_constant(node, "step", np.array(step, np.int32)),
    )
    builder.operator("STRIDED_SLICE", "StridedSliceOptions", inputs, builder.output(node))


@emits(Gather)
def gather(builder: TfliteBuilder, node: Gather) -> None:
    indices = builder.node_constant(node, "indices", np.array(node.indices, np.int32))
    inputs = (*node.inputs, indices)
    builder.operator("GATHER", "GatherOptions", inputs, builder.output(node), axis=node.axis)


@emits(Lookup)
def lookup(builder: TfliteBuilder, node: Lookup) -> None:
    table = builder.weight(node, node.weight, axis=0)
    inputs = (table, *node.inputs)
    builder.operator("GATHER", "GatherOptions", inputs, builder.output(node), axis=0)


@emits(Take)
def take(builder: TfliteBuilder, node: Take) -> None:
    rows, places = node.inputs
    integers = builder.tensor(f"{node.name}.integers", builder.shapes[places], "int32")
    builder.operator("CAST", "CastOptions", (places,), integers)
    inputs, output = (rows, integers), builder.output(node)
    batch = len(node.shape) - 2
    fields = {"axis": batch, "batchDims": batch}
    builder.operator("GATHER", "GatherOptions", inputs, output, GATHERS_IN_BATCHES, **fields)


@emits(ScatterAdd)
def scatter_add(builder: TfliteBuilder, node: ScatterAdd) -> None:
    """The operator has no batch: the rows of all are numbered one after the other."""
    rows, places = node.inputs
    *sizes, count, elements = builder.shapes[rows]
    batch, rows_each = prod(sizes), node.shape[-2]
    if batch > 1:
        starts = np.arange(batch, dtype=np.float32).reshape(*sizes, 1) * rows_each
        inputs = places, builder.node_constant(node, "starts", starts)
        places = builder.tensor(f"{node.name}.numbered", (*sizes, count))
        builder.operator("ADD", "AddOptions", inputs, places)
    column = builder.reshaped(places, (batch * count, 1), f"{node.name}.column")
    integers = builder.tensor(f"{node.name}.integers", (batch * count, 1), "int32")
    builder.operator("CAST", "CastOptions", (column,), integers)
    flat = builder.reshaped(rows, (batch * count, elements), f"{node.name}.rows")
    shape = (batch * rows_each, elements)
    target = builder.node_constant(node, "target", np.array(shape, np.int32))
    sums = builder.tensor(f"{node.name}.sums", shape)
    builder.operator("SCATTER_ND", "ScatterNdOptions", (integers, flat, target), sums)
    builder.reshaped(sums, node.shape, node.name)


@emits(Cast)
def cast(builder: TfliteBuilder, node: Cast) -> None:
    output = builder.tensor(node.name, node.shape, node.dtype)
    builder.operator("CAST", "CastOptions", node.inputs, output)


@emits(ArgExtreme)
def arg_extreme(builder: TfliteBuilder, node: ArgExtreme) -> None:
    """The operator drops the axis."""
    axis = builder.node_constant(node, "axis", np.array(node.axis, np.int32))
    shape = (*node.shape[: node.axis], *node.shape[node.axis + 1 :])
    integers = builder.tensor(f"{node.name}.integers", shape, "int32")
    title = {"max": "Max", "min": "Min"}[node.op]
    options, inputs = f"Arg{title}Options", (*node.inputs, axis)
    int32 = builder.type_number("int32")
    builder.operator(f"ARG_{title.upper()}", options, inputs, integers, outputType=int32)
    floats = builder.tensor(f"{node.name}.floats", shape)
    builder.operator("CAST", "CastOptions", (integers,), floats)
    builder.reshaped(floats, node.shape, node.name)


@emits(TopK)
def top(builder: TfliteBuilder, node: TopK) -> None:
    count = builder.node_constant(node, "count", np.array(node.shape[-1], np.int32))
    values, indices = f"{node.name}.values", f"{node.name}.integers"
    outputs = (
        builder.tensor(values if node.indices else node.name, node.shape),
        builder.tensor(indices, node.shape, "int32"),
    )
    builder.operator("TOPK_V2", "TopKV2Options", (*node.inputs, count), outputs)
    if node.indices:
        builder.operator("CAST", "CastOptions", (indices,), builder.output(node))


@emits(Expand)
def expand(builder: TfliteBuilder, node: Expand) -> None:
    shape = builder.node_constant(node, "shape", np.array(node.shape, np.int32))
    inputs, output = (*node.inputs, shape), builder.output(node)
    builder.operator("BROADCAST_TO", "BroadcastToOptions", inputs, output, version=2)


@emits(Concat)
def concat(builder: TfliteBuilder, node: Concat) -> None:
    output = builder.output(node)
    builder.operator("CONCATENATION", "ConcatenationOptions", node.inputs, output, axis=node.axis)
