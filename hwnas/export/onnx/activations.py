"""Functions of one value as ONNX operators: one where the opset has it, else its parts."""

from __future__ import annotations

import numpy as np

from hwnas.export.onnx.model_builder import OnnxFile

OPS = {
    "add": "Add", "sub": "Sub", "mul": "Mul", "div": "Div", "minimum": "Min", "maximum": "Max",
    "relu": "Relu", "sigmoid": "Sigmoid", "tanh": "Tanh", "elu": "Elu", "exp": "Exp", "log": "Log",
    "sqrt": "Sqrt", "abs": "Abs", "neg": "Neg",
}  # fmt: skip


def activate(file: OnnxFile, op: str, value: str, output: str, slope: float = 0.0) -> None:
    """Add what turns ``value`` into ``output``; ``slope`` is that of a leaky ReLU."""
    add, constant = file.add, file.constant
    if op == "relu6":
        low = constant("zero", np.float32(0))
        add("Clip", (value, low, constant("six", np.float32(6))), output)
    elif op == "hardsigmoid":
        add("HardSigmoid", (value,), output, alpha=1 / 6, beta=0.5)
    elif op == "hardswish" and file.opset < 14:
        add("HardSigmoid", (value,), f"{output}.gate", alpha=1 / 6, beta=0.5)
        add("Mul", (value, f"{output}.gate"), output)
    elif op == "hardswish":
        add("HardSwish", (value,), output)
    elif op in ("gelu", "gelu_tanh"):
        _gelu(file, op, value, output)
    elif op == "leaky_relu":
        add("LeakyRelu", (value,), output, alpha=slope)
    elif op in ("softmax", "log_softmax"):
        add({"softmax": "Softmax", "log_softmax": "LogSoftmax"}[op], (value,), output, axis=1)
    else:
        add(OPS[op], (value,), output)


def _gelu(file: OnnxFile, op: str, value: str, output: str) -> None:
    """An operator from opset 20 on; before, as runtimes know to fuse it."""
    add, constant = file.add, file.constant
    if file.opset >= 20:
        form = "none" if op == "gelu" else "tanh"
        add("Gelu", (value,), output, approximate=form)
        return
    half, one = constant("half", np.float32(0.5)), constant("one", np.float32(1))
    if op == "gelu":
        root = constant("root of two", np.float32(2**0.5))
        add("Div", (value, root), f"{output}.scaled")
        add("Erf", (f"{output}.scaled",), f"{output}.curve")
    else:  # tanh(sqrt(2 / pi) * (x + 0.044715 x^3))
        add("Mul", (value, value), f"{output}.squared")
        cubic = constant("cubic", np.float32(0.044715))
        add("Mul", (f"{output}.squared", cubic), f"{output}.bent")
        add("Add", (f"{output}.bent", one), f"{output}.factor")
        add("Mul", (value, f"{output}.factor"), f"{output}.steep")
        root = constant("root of two by pi", np.float32((2 / np.pi) ** 0.5))
        add("Mul", (f"{output}.steep", root), f"{output}.scaled")
        add("Tanh", (f"{output}.scaled",), f"{output}.curve")
    add("Add", (f"{output}.curve", one), f"{output}.raised")
    add("Mul", (value, f"{output}.raised"), f"{output}.double")
    add("Mul", (f"{output}.double", half), output)
