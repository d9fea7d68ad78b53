"""TFLite emitters for elementwise nodes: arithmetic, activations and constants."""

from __future__ import annotations

from typing import Any

import numpy as np

from hwnas.export.graph.nodes import Activation, Arithmetic, Constant, Prelu, Select
from hwnas.export.tflite.model_builder import FUSED_ACTIVATION, TfliteBuilder, emits


@emits(Arithmetic)
def arithmetic(builder: TfliteBuilder, node: Arithmetic) -> None:
    op = node.op.upper()
    fused: dict[str, Any] = {"fusedActivationFunction": FUSED_ACTIVATION[node.fused]}
    if node.op in ("minimum", "maximum"):
        options, fused = "MaximumMinimumOptions", {}
    elif node.op == "pow":
        options, fused = "PowOptions", {}
    else:
        options = f"{node.op.capitalize()}Options"
    builder.operator(op, options, node.inputs, builder.output(node), **fused)


COMPARISONS = {
    "gt": ("GREATER", "GreaterOptions"),
    "ge": ("GREATER_EQUAL", "GreaterEqualOptions"),
    "lt": ("LESS", "LessOptions"),
    "le": ("LESS_EQUAL", "LessEqualOptions"),
    "eq": ("EQUAL", "EqualOptions"),
    "ne": ("NOT_EQUAL", "NotEqualOptions"),
}


@emits(Select)
def select(builder: TfliteBuilder, node: Select) -> None:
    first, second, *choices = node.inputs
    shape = np.broadcast_shapes(builder.shapes[first], builder.shapes[second])
    mask = builder.tensor(f"{node.name}.mask", shape, "bool")
    op, options = COMPARISONS[node.op]
    builder.operator(op, options, (first, second), mask)
    inputs = (mask, *choices)
    builder.operator("SELECT_V2", "SelectV2Options", inputs, builder.output(node))


@emits(Activation)
def activation(builder: TfliteBuilder, node: Activation) -> None:
    if node.op == "hardsigmoid":
        _hardsigmoid(builder, node)
        return
    op, options, fields = BUILTINS[node.op]
    if node.op == "leaky_relu":
        fields = {**fields, "alpha": node.slope}
    builder.operator(op, options, node.inputs, builder.output(node), **fields)


BUILTINS: dict[str, tuple[str, str | None, dict[str, Any]]] = {
    "relu": ("RELU", None, {}),
    "relu6": ("RELU6", None, {}),
    "sigmoid": ("LOGISTIC", None, {}),
    "tanh": ("TANH", None, {}),
    "hardswish": ("HARD_SWISH", "HardSwishOptions", {}),
    "gelu": ("GELU", "GeluOptions", {"approximate": False}),
    "gelu_tanh": ("GELU", "GeluOptions", {"approximate": True}),
    "elu": ("ELU", None, {}),
    "leaky_relu": ("LEAKY_RELU", "LeakyReluOptions", {}),
    "exp": ("EXP", "ExpOptions", {}),
    "log": ("LOG", None, {}),
    "sqrt": ("SQRT", None, {}),
    "abs": ("ABS", "AbsOptions", {}),
    "neg": ("NEG", "NegOptions", {}),
    "sin": ("SIN", None, {}),
    "cos": ("COS", "CosOptions", {}),
    "floor": ("FLOOR", None, {}),
    "round": ("ROUND", None, {}),
    "ceil": ("CEIL", None, {}),
    "softmax": ("SOFTMAX", "SoftmaxOptions", {"beta": 1.0}),
    "log_softmax": ("LOG_SOFTMAX", "LogSoftmaxOptions", {}),
}
"""Name of the builtin, type of its options, and their fields."""


@emits(Prelu)
def prelu(builder: TfliteBuilder, node: Prelu) -> None:
    slope = builder.node_constant(node, "slope", node.slope[None, None])
    builder.operator("PRELU", None, (*node.inputs, slope), builder.output(node))


def _hardsigmoid(builder: TfliteBuilder, node: Activation) -> None:
    """Compute ``relu6(x + 3) / 6``: there is no builtin."""
    three = builder.constant("three", np.array([3], np.float32))
    sixth = builder.constant("sixth", np.array([1 / 6], np.float32))
    shifted = builder.tensor(f"{node.name}.shifted", node.shape)
    builder.operator(
        "ADD",
        "AddOptions",
        (*node.inputs, three),
        shifted,
        fusedActivationFunction=FUSED_ACTIVATION["relu6"],
    )
    builder.operator("MUL", "MulOptions", (shifted, sixth), builder.output(node))


@emits(Constant)
def constant(builder: TfliteBuilder, node: Constant) -> None:
    builder.value(node.name, node.value)
