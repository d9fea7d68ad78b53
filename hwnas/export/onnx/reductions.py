"""ONNX emitters for reductions over axes."""

from __future__ import annotations

import numpy as np

from hwnas.export.graph.nodes import ArgExtreme, Reduce, TopK
from hwnas.export.onnx.model_builder import OnnxBuilder, emits

OPERATORS = {
    "mean": "ReduceMean",
    "sum": "ReduceSum",
    "max": "ReduceMax",
    "min": "ReduceMin",
    "prod": "ReduceProd",
}
AXES_ARE_INPUT = {"sum": 13, "mean": 18, "max": 18, "min": 18, "prod": 18}
"""Opset from which on the axes are an input, not an attribute."""


@emits(Reduce)
def reduce(builder: OnnxBuilder, node: Reduce) -> None:
    add_reduction(builder, node.op, node.inputs[0], node.name, node.axes)


@emits(ArgExtreme)
def arg_extreme(builder: OnnxBuilder, node: ArgExtreme) -> None:
    indices = f"{node.name}.integers"
    op = {"max": "ArgMax", "min": "ArgMin"}[node.op]
    builder.add(op, node.inputs, indices, axis=node.axis, keepdims=1)
    _add_floats(builder, indices, node.name)


@emits(TopK)
def top(builder: OnnxBuilder, node: TopK) -> None:
    """Values and indices come from an operator each: what nobody reads costs nothing."""
    count = builder.node_constant(node, "count", np.array([node.shape[-1]], np.int64))
    inputs = (*node.inputs, count)
    if not node.indices:
        builder.add("TopK", inputs, node.name, f"{node.name}.places")
        return
    builder.add("TopK", inputs, f"{node.name}.values", f"{node.name}.integers")
    _add_floats(builder, f"{node.name}.integers", node.name)


def _add_floats(builder: OnnxBuilder, value: str, output: str) -> None:
    from onnx import TensorProto

    builder.add("Cast", (value,), output, to=TensorProto.FLOAT)


def add_reduction(
    builder: OnnxBuilder, op: str, value: str, output: str, axes: tuple[int, ...]
) -> str:
    """Add a reduction over ``axes``, which stay with size 1, and return its name."""
    if builder.opset < AXES_ARE_INPUT[op]:
        builder.add(OPERATORS[op], (value,), output, axes=axes, keepdims=1)
    else:
        axes_input = builder.constant(f"{output}.axes", np.array(axes, np.int64))
        builder.add(OPERATORS[op], (value, axes_input), output, keepdims=1)
    return output
