"""Lowering of activations, arithmetic, and modules that do nothing in evaluation mode."""

from __future__ import annotations

import math
from typing import Any

import msgspec
import numpy as np
import torch
from torch import fx

from hwnas.export.graph.nodes import Activation, Arithmetic, Constant, Conv, Linear, Prelu
from hwnas.export.graph.ops import find_op
from hwnas.export.graph.views import NHWC, View
from hwnas.export.graph.weights import to_array
from hwnas.export.lowering.fold_affine import emit_depthwise, fold
from hwnas.export.lowering.lowering import Lowering

FUSING_ARITHMETIC = ("add", "sub", "mul", "div")
"""Operations that may carry a ReLU."""


def fusible(lowering: Lowering, node: fx.Node, part: Any) -> None:
    """Lower ReLU and ReLU6, which are fused into the node before if it has no other user."""
    _fuse(lowering, node, find_op(node, part))


def activation(lowering: Lowering, node: fx.Node, part: Any) -> None:
    value, view = _operand_view(lowering, node)
    lowering.emit(node, Activation, (value,), view, op=find_op(node, part))


def silu(lowering: Lowering, node: fx.Node, part: Any) -> None:
    """Lower to ``x * sigmoid(x)``."""
    value, view = _operand_view(lowering, node)
    shape = lowering.shape(value)
    gate = lowering.step(node, "sigmoid", Activation, (value,), shape, op="sigmoid")
    lowering.emit(node, Arithmetic, (value, gate), view, op="mul")


def softplus(lowering: Lowering, node: fx.Node, part: Any) -> None:
    options = _options(lowering, node, part, "beta", "threshold")
    if options.get("beta", 1) != 1:
        lowering.refuse(node, f"with beta={options['beta']} is not supported, only 1")
    value, view = _operand_view(lowering, node)
    parts = _softplus_parts(lowering, node, value)
    lowering.emit(node, Arithmetic, parts, view, op="add")


def mish(lowering: Lowering, node: fx.Node, part: Any) -> None:
    """Lower to ``x * tanh(softplus(x))``."""
    value, view = _operand_view(lowering, node)
    shape = lowering.shape(value)
    parts = _softplus_parts(lowering, node, value)
    soft = lowering.step(node, "softplus", Arithmetic, parts, shape, op="add")
    gate = lowering.step(node, "tanh", Activation, (soft,), shape, op="tanh")
    lowering.emit(node, Arithmetic, (value, gate), view, op="mul")


def gelu(lowering: Lowering, node: fx.Node, part: Any) -> None:
    form = _options(lowering, node, part, "approximate").get("approximate", "none")
    value, view = _operand_view(lowering, node)
    op = {"none": "gelu", "tanh": "gelu_tanh"}[form]
    lowering.emit(node, Activation, (value,), view, op=op)


def elu(lowering: Lowering, node: fx.Node, part: Any) -> None:
    alpha = _options(lowering, node, part, "alpha").get("alpha", 1.0)
    if alpha != 1.0:
        lowering.refuse(node, f"with alpha={alpha} is not supported, only 1")
    value, view = _operand_view(lowering, node)
    lowering.emit(node, Activation, (value,), view, op="elu")


def leaky_relu(lowering: Lowering, node: fx.Node, part: Any) -> None:
    slope = _options(lowering, node, part, "negative_slope").get("negative_slope", 0.01)
    value, view = _operand_view(lowering, node)
    lowering.emit(node, Activation, (value,), view, op="leaky_relu", slope=float(slope))


def prelu(lowering: Lowering, node: fx.Node, part: Any) -> None:
    value = lowering.operand(node)
    shape = lowering.shape(value)
    if len(shape) != 4:
        lowering.refuse(node, f"of shape {shape} is not supported, only of [N, C, H, W]")
    slope = np.broadcast_to(to_array(part.weight), (shape[1],))
    lowering.emit(node, Prelu, (value,), slope=np.ascontiguousarray(slope))


def clamp(lowering: Lowering, node: fx.Node, part: Any) -> None:
    """Lower to ReLU6 for bounds 0 and 6, to ReLU for 0 alone, else to a maximum and a minimum."""
    if part is not None:
        low, high = part.min_val, part.max_val
    elif node.target is torch.nn.functional.hardtanh:
        options = lowering.options(node, "min_val", "max_val")
        low, high = options.get("min_val", -1.0), options.get("max_val", 1.0)
    else:
        options = lowering.options(node, "min", "max")
        low, high = options.get("min"), options.get("max")
    if any(isinstance(bound, fx.Node) for bound in (low, high)):
        lowering.refuse(node, "with a tensor as bound is not supported, only with numbers")
    if low == 0 and high in (None, 6):
        _fuse(lowering, node, "relu" if high is None else "relu6")
        return
    value, view = _operand_view(lowering, node)
    if low is not None and high is not None:
        bound = _number(lowering, node, value, low, "low")
        shape = lowering.shape(value)
        value = lowering.step(node, "maximum", Arithmetic, (value, bound), shape, op="maximum")
    op, limit = ("maximum", low) if high is None else ("minimum", high)
    if limit is None:
        lowering.refuse(node, "without a bound is not supported")
    bound = _number(lowering, node, value, limit, "limit")
    lowering.emit(node, Arithmetic, (value, bound), view, op=op)


def softmax(lowering: Lowering, node: fx.Node, part: Any) -> None:
    options = _options(lowering, node, part, "dim")
    value, view = _operand_view(lowering, node)
    rank, dim = len(lowering.shape(value)), options.get("dim")
    channels = 1 if view is None else rank - 1
    if dim is None or dim % rank != channels or options.keys() - {"dim", "_stacklevel"}:
        lowering.refuse(node, f"over dim {dim} is not supported, only over the channels, 1")
    lowering.emit(node, Activation, (value,), view, op=find_op(node, part))


def arithmetic(lowering: Lowering, node: fx.Node, part: Any) -> None:
    """Lower arithmetic on two tensors, or on a tensor and a constant, folded where possible."""
    if node.kwargs.keys() - {"input", "other"}:
        lowering.refuse(node, f"with {', '.join(node.kwargs)} given by name is not supported")
    op, left, right = find_op(node, part) or "", lowering.argument(node), lowering.argument(node, 1)
    left_constant, right_constant = lowering.constant(left), lowering.constant(right)
    if left_constant is None and right_constant is None:
        view = lowering.views.get(left) if isinstance(left, fx.Node) else None
        inputs = lowering.value(node, left, view), lowering.value(node, right, view)
        if view not in (None, NHWC):
            lowering.refuse_layout(node, view)
        ranks = [len(lowering.shape(value)) for value in inputs]
        if ranks[0] != ranks[1]:
            lowering.refuse(node, f"of tensors of rank {ranks[0]} and {ranks[1]} is not supported")
        lowering.emit(node, Arithmetic, inputs, view, op=op)
    elif left_constant is None:
        _with_constant(lowering, node, op, left, right_constant, constant_first=False)
    else:
        _with_constant(lowering, node, op, right, left_constant, constant_first=True)


def dropout(lowering: Lowering, node: fx.Node, part: Any) -> None:
    is_torch = node.target in (torch.nn.functional.dropout, torch.nn.functional.dropout2d)
    names = ("p", "training") if is_torch else ("p", "mode", "training")  # stochastic_depth
    if part is None and lowering.options(node, *names).get("training", True):
        lowering.refuse(node, "is active in evaluation mode; pass training=self.training")
    identity(lowering, node, part)


def identity(lowering: Lowering, node: fx.Node, part: Any) -> None:
    view = lowering.views.get(lowering.argument(node))
    lowering.become(node, lowering.value(node, lowering.argument(node), view), view)


def _fuse(lowering: Lowering, node: fx.Node, op: Any) -> None:
    """Fuse ``op`` into the node before it, else compute it once for each value."""
    value, view = _operand_view(lowering, node)
    before = lowering.nodes.get(value)
    can_fuse = isinstance(before, Conv | Linear) or (
        isinstance(before, Arithmetic) and before.op in FUSING_ARITHMETIC
    )
    if can_fuse and before.fused is None and lowering.has_one_user(value):  # type: ignore[union-attr]
        lowering.nodes[value] = msgspec.structs.replace(before, fused=op)  # type: ignore[type-var]
        lowering.become(node, value, view)
    elif (op, value) in lowering.activated:
        lowering.become(node, lowering.activated[op, value], view)
    else:
        lowering.emit(node, Activation, (value,), view, op=op)
        lowering.activated[op, value] = lowering.values[node]


def _with_constant(
    lowering: Lowering, node: fx.Node, op: str, tensor: Any, constant: Any, constant_first: bool
) -> None:
    view = lowering.views.get(tensor)
    value = _value_in(lowering, node, tensor, view)
    shape: Any = lowering.shape(value)
    rank = len(lowering.shapes[node])
    numbers: Any = to_array(torch.as_tensor(constant), np.float64)
    if numbers.ndim > rank:
        lowering.refuse(node, f"of tensors of rank {rank} and {numbers.ndim} is not supported")
    numbers = numbers.reshape(*(1,) * (rank - numbers.ndim), *numbers.shape)
    if view is not None:
        numbers = numbers.transpose(0, 3, 1, 2)
    scale, shift = _affine_form(op, numbers, constant_first)
    per_channel = len(shape) > 1 and all(
        size == 1 for axis, size in enumerate(numbers.shape) if axis != 1
    )
    if scale is not None and per_channel and numbers.shape[1] in (1, shape[1]):
        scale, shift = (np.broadcast_to(np.ravel(term), (shape[1],)) for term in (scale, shift))
        if fold(lowering, value, scale, shift):
            lowering.become(node, value, view)
            return
        if len(shape) == 4 and (scale != 1).any() and (shift != 0).any():
            emit_depthwise(lowering, node, value, scale, shift, view)
            return
    operand = lowering.step(
        node, "constant", Constant, (), numbers.shape, value=numbers.astype(np.float32)
    )
    inputs = (operand, value) if constant_first else (value, operand)
    lowering.emit(node, Arithmetic, inputs, view, op=op)


def _affine_form(op: str, constant: Any, constant_first: bool) -> tuple[Any, Any]:
    """Return scale and shift of an operation with a constant, ``None, None`` if not affine."""
    ones, zeros = np.ones_like(constant), np.zeros_like(constant)
    if op == "add":
        return ones, constant
    if op == "sub":
        return (-ones, constant) if constant_first else (ones, -constant)
    if op == "mul":
        return constant, zeros
    if op == "div" and not constant_first:
        return 1.0 / constant, zeros
    return None, None


def _softplus_parts(lowering: Lowering, node: fx.Node, value: str) -> tuple[str, str]:
    """Return both terms of ``max(x, 0) + log(1 + exp(-|x|))``, a softplus that cannot overflow."""
    shape = lowering.shape(value)

    def step(suffix: str, source: str, op: str) -> str:
        return lowering.step(node, suffix, Activation, (source,), shape, op=op)

    small = step("exp", step("neg", step("abs", value, "abs"), "neg"), "exp")
    unit = _number(lowering, node, value, 1.0, "one")
    more = lowering.step(node, "more", Arithmetic, (small, unit), shape, op="add")
    return step("positive", value, "relu"), step("log", more, "log")


def _number(lowering: Lowering, node: fx.Node, value: str, number: Any, suffix: str) -> str:
    """Add a constant that is broadcast to ``value``."""
    shape = (1,) * len(lowering.shape(value))
    if not isinstance(number, int | float) or not math.isfinite(number):
        lowering.refuse(node, f"with {number!r} is not supported, only with a finite number")
    constant = np.full(shape, number, np.float32)
    return lowering.step(node, suffix, Constant, (), shape, value=constant)


def _options(lowering: Lowering, node: fx.Node, part: Any, *names: str) -> dict[str, Any]:
    """Return the options of a module or of a call by name."""
    if part is not None:
        return {name: getattr(part, name) for name in names if hasattr(part, name)}
    options = lowering.options(node, *names)
    options.pop("inplace", None)
    return options


def _operand_view(lowering: Lowering, node: fx.Node) -> tuple[str, View | None]:
    """Return the value of the first argument, and the view if the argument is NHWC."""
    argument = lowering.argument(node)
    view = lowering.views.get(argument)
    return _value_in(lowering, node, argument, view), view


def _value_in(lowering: Lowering, node: fx.Node, argument: Any, view: View | None) -> str:
    """Return the value of an argument that is NCHW or NHWC."""
    if view not in (None, NHWC):
        lowering.refuse_layout(node, view)
    return lowering.value(node, argument, view)
