"""ONNX emitters for elementwise nodes; decomposed where the opset lacks an operator."""

from __future__ import annotations

from typing import Any

import numpy as np

from hwnas.export.graph.nodes import (
    Activation,
    Arithmetic,
    Constant,
    Conv,
    Linear,
    Prelu,
    Select,
)
from hwnas.export.onnx.model_builder import OnnxBuilder, emits

OPERATORS = {
    "add": "Add",
    "sub": "Sub",
    "mul": "Mul",
    "div": "Div",
    "minimum": "Min",
    "maximum": "Max",
    "relu": "Relu",
    "sigmoid": "Sigmoid",
    "tanh": "Tanh",
    "elu": "Elu",
    "exp": "Exp",
    "log": "Log",
    "sqrt": "Sqrt",
    "abs": "Abs",
    "neg": "Neg",
    "pow": "Pow",
    "sin": "Sin",
    "cos": "Cos",
    "floor": "Floor",
    "round": "Round",
    "ceil": "Ceil",
}
"""Operators without attributes."""


@emits(Arithmetic)
def arithmetic(builder: OnnxBuilder, node: Arithmetic) -> None:
    add_with_activation(builder, node, OPERATORS[node.op], node.inputs)


@emits(Activation)
def activation(builder: OnnxBuilder, node: Activation) -> None:
    if node.op in ("softmax", "log_softmax"):
        op = {"softmax": "Softmax", "log_softmax": "LogSoftmax"}[node.op]
        builder.add(op, node.inputs, node.name, axis=node.axis)
    else:
        add_activation(builder, node.op, node.inputs[0], node.name, node.slope)


COMPARISONS = {
    "gt": "Greater",
    "ge": "GreaterOrEqual",
    "lt": "Less",
    "le": "LessOrEqual",
    "eq": "Equal",
    "ne": "Equal",
}


@emits(Select)
def select(builder: OnnxBuilder, node: Select) -> None:
    """There is no operator for ``ne``: the choices of ``eq`` are swapped."""
    first, second, then, otherwise = node.inputs
    if node.op == "ne":
        then, otherwise = otherwise, then
    builder.add(COMPARISONS[node.op], (first, second), f"{node.name}.mask")
    builder.add("Where", (f"{node.name}.mask", then, otherwise), node.name)


@emits(Prelu)
def prelu(builder: OnnxBuilder, node: Prelu) -> None:
    slope = builder.node_constant(node, "slope", node.slope[:, None, None])
    builder.add("PRelu", (*node.inputs, slope), node.name)


@emits(Constant)
def constant(builder: OnnxBuilder, node: Constant) -> None:
    builder.value(node.name, node.value)


def add_with_activation(
    builder: OnnxBuilder,
    node: Conv | Linear | Arithmetic,
    op: str,
    inputs: tuple[str, ...],
    **attributes: Any,
) -> None:
    """Add ``op``, followed by the activation that is fused into ``node``, if it has one."""
    if node.fused is None:
        builder.add(op, inputs, node.name, **attributes)
    else:
        builder.add(op, inputs, f"{node.name}.before", **attributes)
        add_activation(builder, node.fused, f"{node.name}.before", node.name)


def add_activation(
    builder: OnnxBuilder, op: str, value: str, output: str, slope: float = 0.0
) -> None:
    """Add the operators that compute ``output = op(value)``; ``slope`` is for a leaky ReLU."""
    add = builder.add
    if op == "relu6":
        low = builder.constant("zero", np.float32(0))
        add("Clip", (value, low, builder.constant("six", np.float32(6))), output)
    elif op == "hardsigmoid":
        add("HardSigmoid", (value,), output, alpha=1 / 6, beta=0.5)
    elif op == "hardswish" and builder.opset < 14:
        add("HardSigmoid", (value,), f"{output}.gate", alpha=1 / 6, beta=0.5)
        add("Mul", (value, f"{output}.gate"), output)
    elif op == "hardswish":
        add("HardSwish", (value,), output)
    elif op in ("gelu", "gelu_tanh"):
        _add_gelu(builder, op, value, output)
    elif op == "leaky_relu":
        add("LeakyRelu", (value,), output, alpha=slope)
    else:
        add(OPERATORS[op], (value,), output)


def _add_gelu(builder: OnnxBuilder, op: str, value: str, output: str) -> None:
    """``Gelu`` exists from opset 20 on; before, use the pattern that runtimes fuse."""
    add, constant = builder.add, builder.constant
    if builder.opset >= 20:
        add("Gelu", (value,), output, approximate="none" if op == "gelu" else "tanh")
        return
    half, unit = constant("half", np.float32(0.5)), constant("one", np.float32(1))
    if op == "gelu":
        root = constant("root of two", np.float32(2**0.5))
        add("Div", (value, root), f"{output}.scaled")
        add("Erf", (f"{output}.scaled",), f"{output}.curve")
    else:  # tanh(sqrt(2 / pi) * (x + 0.044715 x^3))
        add("Mul", (value, value), f"{output}.squared")
        cubic = constant("cubic", np.float32(0.044715))
        add("Mul", (f"{output}.squared", cubic), f"{output}.bent")
        add("Add", (f"{output}.bent", unit), f"{output}.factor")
        add("Mul", (value, f"{output}.factor"), f"{output}.steep")
        root = constant("root of two by pi", np.float32((2 / np.pi) ** 0.5))
        add("Mul", (f"{output}.steep", root), f"{output}.scaled")
        add("Tanh", (f"{output}.scaled",), f"{output}.curve")
    add("Add", (f"{output}.curve", unit), f"{output}.raised")
    add("Mul", (value, f"{output}.raised"), f"{output}.double")
    add("Mul", (f"{output}.double", half), output)
