"""Arithmetic of two or more values, comparisons, logic and choices."""

from __future__ import annotations

from collections.abc import Callable
from functools import reduce

import torch
from torch import Tensor

from hwnas.export.onnx_reader.node import OnnxNode, scalar
from hwnas.export.onnx_reader.registry import reads

PAIRS: dict[str, Callable[..., Tensor]] = {
    "Add": torch.add,
    "Sub": torch.sub,
    "Mul": torch.mul,
    "Equal": torch.eq,
    "Greater": torch.gt,
    "GreaterOrEqual": torch.ge,
    "Less": torch.lt,
    "LessOrEqual": torch.le,
    "And": torch.logical_and,
    "Or": torch.logical_or,
    "Xor": torch.ne,
    "BitwiseAnd": torch.bitwise_and,
    "BitwiseOr": torch.bitwise_or,
    "BitwiseXor": torch.bitwise_xor,
}
"""Operators without attributes, of two inputs that broadcast."""
SERIES: dict[str, Callable[..., Tensor]] = {
    "Max": torch.maximum,
    "Min": torch.minimum,
    "Sum": torch.add,
}
"""Operators of any number of inputs that broadcast."""


def _register(op: str, function: Callable[..., Tensor]) -> None:
    if op in SERIES:
        reads(op)(lambda node, *values: reduce(function, values))
    else:
        reads(op)(lambda node, left, right: function(left, right))


for _op, _function in (PAIRS | SERIES).items():
    _register(_op, _function)


@reads("Mean")
def mean(node: OnnxNode, *values: Tensor) -> Tensor:
    return reduce(torch.add, values) / len(values)


@reads("Div")
def div(node: OnnxNode, left: Tensor, right: Tensor) -> Tensor:
    """Divide; integers are rounded towards zero."""
    whole = not left.is_floating_point() and not right.is_floating_point()
    return torch.div(left, right, rounding_mode="trunc") if whole else torch.div(left, right)


@reads("Pow")
def power(node: OnnxNode, base: Tensor, exponent: Tensor) -> Tensor:
    """Raise to a power; a constant exponent is a number, which compiles to products and roots."""
    number = scalar(exponent, base.dim())
    result = torch.pow(base, exponent if number is None else number)
    return result if base.is_floating_point() else result.to(base.dtype)


@reads("Mod")
def mod(node: OnnxNode, left: Tensor, right: Tensor) -> Tensor:
    """Return the remainder with the sign of the divisor, or with ``fmod`` of the dividend."""
    return (torch.fmod if node.integer("fmod", 0) else torch.remainder)(left, right)


@reads("Not")
def logical_not(node: OnnxNode, x: Tensor) -> Tensor:
    return torch.logical_not(x)


@reads("BitwiseNot")
def bitwise_not(node: OnnxNode, x: Tensor) -> Tensor:
    return torch.bitwise_not(x)


@reads("BitShift")
def bit_shift(node: OnnxNode, x: Tensor, amount: Tensor) -> Tensor:
    left = node.text("direction", "") == "LEFT"
    return (torch.bitwise_left_shift if left else torch.bitwise_right_shift)(x, amount)


@reads("Where")
def where(node: OnnxNode, condition: Tensor, then: Tensor, otherwise: Tensor) -> Tensor:
    return torch.where(condition, then, otherwise)
