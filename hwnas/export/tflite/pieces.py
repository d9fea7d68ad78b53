"""TFLite emitters for pieces of values: slices, gathers, expansions, concatenation, casts."""

from __future__ import annotations

import numpy as np

from hwnas.export.graph.nodes import Cast, Concat, Expand, Gather, Lookup, Slice
from hwnas.export.tflite.model_builder import TfliteBuilder, emits


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
    table = builder.node_constant(node, "weight", node.weight)
    inputs = (table, *node.inputs)
    builder.operator("GATHER", "GatherOptions", inputs, builder.output(node), axis=0)


@emits(Cast)
def cast(builder: TfliteBuilder, node: Cast) -> None:
    output = builder.tensor(node.name, node.shape, node.dtype)
    builder.operator("CAST", "CastOptions", node.inputs, output)


@emits(Expand)
def expand(builder: TfliteBuilder, node: Expand) -> None:
    shape = builder.node_constant(node, "shape", np.array(node.shape, np.int32))
    inputs, output = (*node.inputs, shape), builder.output(node)
    builder.operator("BROADCAST_TO", "BroadcastToOptions", inputs, output, version=2)


@emits(Concat)
def concat(builder: TfliteBuilder, node: Concat) -> None:
    output = builder.output(node)
    builder.operator("CONCATENATION", "ConcatenationOptions", node.inputs, output, axis=node.axis)
