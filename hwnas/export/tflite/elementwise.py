"""Element by element in TFLite: arithmetic and activations."""

from __future__ import annotations

from typing import Any

import numpy as np

from hwnas.export.graph.nodes import Activation, Arithmetic, Constant, Prelu
from hwnas.export.tflite.writer import FUSED, Writer, nhwc


def arithmetic(writer: Writer, node: Arithmetic) -> None:
    op = node.op.upper()
    fused: dict[str, Any] = {"fusedActivationFunction": FUSED[node.fused]}
    if node.op in ("minimum", "maximum"):
        options, fused = "MaximumMinimumOptions", {}
    else:
        options = f"{node.op.capitalize()}Options"
    writer.file.operator(op, options, node.inputs, writer.output(node), **fused)


def activation(writer: Writer, node: Activation) -> None:
    if node.op == "hardsigmoid":
        _hardsigmoid(writer, node)
        return
    op, options, known = _ACTIVATIONS[node.op]
    fields: dict[str, Any] = {"alpha": node.slope} if node.op == "leaky_relu" else known
    writer.file.operator(op, options, node.inputs, writer.output(node), **fields)


_ACTIVATIONS: dict[str, tuple[str, str | None, dict[str, Any]]] = {
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
    "softmax": ("SOFTMAX", "SoftmaxOptions", {"beta": 1.0}),
    "log_softmax": ("LOG_SOFTMAX", "LogSoftmaxOptions", {}),
}
"""Builtin, its options' type and their fields."""


def prelu(writer: Writer, node: Prelu) -> None:
    slope = writer.constant(node, "slope", node.slope[None, None])
    writer.file.operator("PRELU", None, (*node.inputs, slope), writer.output(node))


def _hardsigmoid(writer: Writer, node: Activation) -> None:
    """``relu6(x + 3) / 6``, as there is no such builtin."""
    three = writer.file.constant("three", np.array([3], np.float32))
    sixth = writer.file.constant("sixth", np.array([1 / 6], np.float32))
    shifted = writer.file.tensor(f"{node.name}.shifted", nhwc(node.shape))
    writer.file.operator(
        "ADD",
        "AddOptions",
        (*node.inputs, three),
        shifted,
        fusedActivationFunction=FUSED["relu6"],
    )
    writer.file.operator("MUL", "MulOptions", (shifted, sixth), writer.output(node))


def constant(writer: Writer, node: Constant) -> None:
    value = node.value.transpose(0, 2, 3, 1) if node.value.ndim == 4 else node.value
    writer.file.value(node.name, np.ascontiguousarray(value))
