"""Lowering of arithmetic on two tensors, comparisons and choices."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch

from hwnas.export.graph.nodes import Activation, Arithmetic, Constant, Expand, Select
from hwnas.export.graph.recording import Call, Value
from hwnas.export.graph.weights import to_array
from hwnas.export.lowering.fold_affine import emit_depthwise, fold
from hwnas.export.lowering.lowering import Lowering
from hwnas.export.lowering.ops import bits
from hwnas.export.lowering.steps import Steps

OPS = {"max": "maximum", "min": "minimum"}
"""Operations of two tensors that have the name of a reduction."""


def arithmetic(lowering: Lowering, call: Call) -> None:
    """Lower arithmetic on two tensors, or on a tensor and a constant, folded where possible."""
    op, left, right = OPS.get(call.op, call.op), call.args["self"], call.args["other"]
    if mode := call.args.get("rounding_mode"):
        _whole_quotient(lowering, call, mode)
        return
    if op == "rsub":
        op, left, right = "sub", right, left
    alpha = call.args.get("alpha", 1)
    if alpha != 1:
        right = _scaled(lowering, call, right, alpha)
    _compute(lowering, call, op, left, right)


def power(lowering: Lowering, call: Call) -> None:
    """Lower whole and half powers to products and roots, others to ``pow``."""
    base, exponent = call.args["self"], call.args["exponent"]
    steps = Steps(lowering, call)
    if isinstance(exponent, Value) or not isinstance(base, Value) or torch.is_tensor(exponent):
        names = lowering.name(call, base), lowering.name(call, exponent)
        steps.finish(steps.arithmetic("pow", *names))
        return
    value = lowering.values[base]
    if exponent in (1, 2, 3, 4):
        steps.finish(_whole_power(steps, value, int(exponent)))
    elif exponent in (0.5, -0.5, -1):
        root = value if exponent == -1 else steps.activation("sqrt", value)
        steps.finish(root if exponent == 0.5 else steps.arithmetic("div", 1.0, root))
    else:
        steps.finish(steps.arithmetic("pow", value, float(exponent)))


def square(lowering: Lowering, call: Call) -> None:
    value, steps = lowering.operand(call), Steps(lowering, call)
    steps.finish(steps.arithmetic("mul", value, value))


def negative(lowering: Lowering, call: Call) -> None:
    lowering.emit(call, Activation, (lowering.operand(call),), op="neg")


def comparison(lowering: Lowering, call: Call) -> None:
    """Lower to a mask of ones and zeros, which `where` looks through."""
    steps = Steps(lowering, call)
    left, right = (lowering.name(call, call.args[name]) for name in ("self", "other"))
    steps.finish(steps.select(call.op, left, right, 1.0, 0.0))


def where(lowering: Lowering, call: Call) -> None:
    steps = Steps(lowering, call)
    then, otherwise = (lowering.name(call, call.args[name]) for name in ("self", "other"))
    steps.finish(_choice(lowering, call, call.args["condition"], then, otherwise))


def masked_fill(lowering: Lowering, call: Call) -> None:
    fill, value = lowering.name(call, call.args["value"]), lowering.operand(call)
    Steps(lowering, call).finish(_choice(lowering, call, call.args["mask"], fill, value))


def logical(lowering: Lowering, call: Call) -> None:
    """Lower ``and``, ``or`` and ``not`` of masks to a minimum, a maximum and ``1 - mask``.

    Those of numbers are of their bits.
    """
    if call.result.dtype != torch.bool:
        bits.bitwise(lowering, call)
        return
    steps = Steps(lowering, call)
    masks = [call.args[name] for name in ("self", "other") if name in call.args]
    names = [_mask(lowering, call, mask) for mask in masks]
    if "not" in call.op:
        steps.finish(steps.arithmetic("sub", 1.0, names[0]))
    elif "xor" in call.op:
        steps.finish(steps.select("ne", names[0], names[1], 1.0, 0.0))
    else:
        op = "minimum" if "and" in call.op else "maximum"
        steps.finish(steps.arithmetic(op, *names))


def remainder(lowering: Lowering, call: Call) -> None:
    """Lower to ``x - floor(x / y) * y``."""
    value, steps = lowering.operand(call), Steps(lowering, call)
    divisor = lowering.name(call, call.args["other"])
    whole = steps.activation("floor", steps.arithmetic("div", value, divisor))
    steps.finish(steps.arithmetic("sub", value, steps.arithmetic("mul", whole, divisor)))


def lerp(lowering: Lowering, call: Call) -> None:
    """Lower to ``self + weight * (end - self)``."""
    steps, first = Steps(lowering, call), lowering.operand(call)
    way = steps.arithmetic("sub", lowering.operand(call, "end"), first)
    part = steps.arithmetic("mul", way, lowering.name(call, call.args["weight"]))
    steps.finish(steps.arithmetic("add", first, part))


def _whole_quotient(lowering: Lowering, call: Call, mode: str) -> None:
    steps = Steps(lowering, call)
    names = (lowering.name(call, call.args[name]) for name in ("self", "other"))
    quotient = steps.arithmetic("div", *names)
    whole = steps.activation("floor", quotient) if mode == "floor" else None
    steps.finish(whole or steps.towards_zero(quotient))


def _compute(lowering: Lowering, call: Call, op: str, left: Any, right: Any) -> None:
    if isinstance(left, Value) and isinstance(right, Value):
        steps = Steps(lowering, call)
        rank = len(call.result.shape)
        names = [
            steps.of_rank(_unexpanded(lowering, lowering.values[value], call.result.shape), rank)
            for value in (left, right)
        ]
        if np.broadcast_shapes(*map(lowering.shape, names)) != call.result.shape:
            names = [steps.of_rank(lowering.values[value], rank) for value in (left, right)]
        lowering.emit(call, Arithmetic, tuple(names), op=op)
    elif isinstance(left, Value):
        _with_constant(lowering, call, op, lowering.values[left], right, constant_first=False)
    else:
        _with_constant(lowering, call, op, lowering.name(call, right), left, constant_first=True)


def _with_constant(
    lowering: Lowering, call: Call, op: str, value: str, constant: Any, constant_first: bool
) -> None:
    shape, rank = lowering.shape(value), len(call.result.shape)
    numbers: Any = to_array(torch.as_tensor(constant), np.float64)
    numbers = numbers.reshape((1,) * (rank - numbers.ndim) + numbers.shape)
    scale, shift = _affine_form(op, numbers, constant_first)
    if scale is not None and shape == call.result.shape:
        axis = _only_axis(numbers.shape)
        if axis is not None and _folds(lowering, value, axis, scale, shift):
            lowering.become(call, value)
            return
        both = bool((scale != 1).any() and (shift != 0).any())
        if both and axis in (None, 1) and numbers.size in (1, shape[1]) and rank == 4:
            terms = (np.broadcast_to(np.ravel(term), (shape[1],)) for term in (scale, shift))
            emit_depthwise(lowering, call, value, *terms)
            return
    steps = Steps(lowering, call)
    operand, value = lowering.constant_node(call, numbers), steps.of_rank(value, rank)
    inputs = (operand, value) if constant_first else (value, operand)
    lowering.emit(call, Arithmetic, inputs, op=op)


def _folds(lowering: Lowering, value: str, axis: int, scale: Any, shift: Any) -> bool:
    """Fold a scale and shift along ``axis``, or of all elements if it is -1."""
    shape = lowering.shape(value)
    for candidate in range(1, len(shape)) if axis < 0 else (axis,):
        terms = [np.broadcast_to(np.ravel(term), (shape[candidate],)) for term in (scale, shift)]
        if fold(lowering, value, candidate, *terms):
            return True
    return False


def _only_axis(shape: tuple[int, ...]) -> int | None:
    """Return the only axis that is not 1, -1 if there is none, None if there are several."""
    axes = [axis for axis, size in enumerate(shape) if size != 1]
    if not axes:
        return -1
    return axes[0] if len(axes) == 1 and axes[0] > 0 else None


def _affine_form(op: str, constant: Any, constant_first: bool) -> tuple[Any, Any]:
    """Return scale and shift of an operation with a constant, ``None, None`` if not affine."""
    ones, zeros = np.ones_like(constant), np.zeros_like(constant)
    if op == "add":
        return ones, constant
    if op == "sub":
        return (-ones, constant) if constant_first else (ones, -constant)
    if op == "mul":
        return constant, zeros
    if op == "div" and not constant_first and constant.all():
        return 1.0 / constant, zeros
    return None, None


def _scaled(lowering: Lowering, call: Call, operand: Any, factor: float) -> Any:
    if not isinstance(operand, Value):
        return operand * factor
    steps = Steps(lowering, call)
    scaled = Value(operand.shape, operand.dtype)
    lowering.give(scaled, steps.arithmetic("mul", lowering.values[operand], factor))
    return scaled


def _unexpanded(lowering: Lowering, value: str, shape: tuple[int, ...]) -> str:
    """Return the value before an expansion: arithmetic broadcasts by itself."""
    node = lowering.nodes.get(value)
    return node.inputs[0] if isinstance(node, Expand) else value


def _whole_power(steps: Steps, value: str, exponent: int) -> str:
    if exponent == 1:
        return value
    squared = steps.arithmetic("mul", value, value)
    if exponent == 2:
        return squared
    return steps.arithmetic("mul", squared, value if exponent == 3 else squared)


def _choice(lowering: Lowering, call: Call, mask: Any, then: str, otherwise: str) -> str:
    steps, name = Steps(lowering, call), lowering.name(call, mask)
    node = lowering.nodes.get(name)
    if isinstance(node, Select) and _is_mask(lowering, node):
        left, right = node.inputs[:2]
        return steps.select(node.op, left, right, then, otherwise)
    return steps.select("ne", name, 0.0, then, otherwise)


def _mask(lowering: Lowering, call: Call, mask: Any) -> str:
    """Return the name of a mask of ones and zeros; another value counts where it is not 0."""
    name = lowering.name(call, mask)
    if mask.dtype == torch.bool:
        return name
    return Steps(lowering, call).select("ne", name, 0.0, 1.0, 0.0)


def _is_mask(lowering: Lowering, node: Select) -> bool:
    """Return whether a node chooses between 1 and 0."""
    then, otherwise = (lowering.nodes.get(name) for name in node.inputs[2:])
    return (
        isinstance(then, Constant)
        and isinstance(otherwise, Constant)
        and then.value.size == otherwise.value.size == 1
        and (then.value.item(), otherwise.value.item()) == (1.0, 0.0)
    )
