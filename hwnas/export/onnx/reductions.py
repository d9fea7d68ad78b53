"""ONNX emitters for reductions over axes."""

from __future__ import annotations

import numpy as np

from hwnas.export.graph.nodes import Reduce
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
