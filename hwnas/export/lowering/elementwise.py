"""Operations on each element: activations, arithmetic, and what does nothing in evaluation."""

from __future__ import annotations

import math
from typing import Any

import msgspec
import numpy as np
import torch
from torch import fx

from hwnas.export.graph.nodes import Activation, Arithmetic, Constant, Conv, Linear, Prelu
from hwnas.export.graph.ops import find_op
from hwnas.export.graph.views import View
from hwnas.export.graph.weights import array
from hwnas.export.lowering.fold_affine import depthwise, fold
from hwnas.export.lowering.lowering import Lowering

FUSING = ("add", "sub", "mul", "div")


def fusible(lowering: Lowering, node: fx.Node, part: Any) -> None:
    """Relu and relu6 go into the node before, if nothing else uses its output."""
    _fuse(lowering, node, find_op(node, part))


def activation(lowering: Lowering, node: fx.Node, part: Any) -> None:
    value, view = _seen(lowering, node)
    lowering.emit(node, Activation, (value,), view, op=find_op(node, part))


def silu(lowering: Lowering, node: fx.Node, part: Any) -> None:
    """``x * sigmoid(x)``"""
    value, view = _seen(lowering, node)
    shape = lowering.shape(value)
    gate = lowering.step(node, "sigmoid", Activation, (value,), shape, op="sigmoid")
    lowering.emit(node, Arithmetic, (value, gate), view, op="mul")


def softplus(lowering: Lowering, node: fx.Node, part: Any) -> None:
    given = _options(lowering, node, part, "beta", "threshold")
    if given.get("beta", 1) != 1:
        lowering.refuse(node, f"with beta={given['beta']} is not supported, only 1")
    value, view = _seen(lowering, node)
    parts = _softplus_parts(lowering, node, value)
    lowering.emit(node, Arithmetic, parts, view, op="add")


def mish(lowering: Lowering, node: fx.Node, part: Any) -> None:
    """``x * tanh(softplus(x))``"""
    value, view = _seen(lowering, node)
    shape = lowering.shape(value)
    parts = _softplus_parts(lowering, node, value)
    soft = lowering.step(node, "softplus", Arithmetic, parts, shape, op="add")
    gate = lowering.step(node, "tanh", Activation, (soft,), shape, op="tanh")
    lowering.emit(node, Arithmetic, (value, gate), view, op="mul")


def gelu(lowering: Lowering, node: fx.Node, part: Any) -> None:
    form = _options(lowering, node, part, "approximate").get("approximate", "none")
    value, view = _seen(lowering, node)
    op = {"none": "gelu", "tanh": "gelu_tanh"}[form]
    lowering.emit(node, Activation, (value,), view, op=op)


def elu(lowering: Lowering, node: fx.Node, part: Any) -> None:
    alpha = _options(lowering, node, part, "alpha").get("alpha", 1.0)
    if alpha != 1.0:
        lowering.refuse(node, f"with alpha={alpha} is not supported, only 1")
    value, view = _seen(lowering, node)
    lowering.emit(node, Activation, (value,), view, op="elu")


def leaky_relu(lowering: Lowering, node: fx.Node, part: Any) -> None:
    slope = _options(lowering, node, part, "negative_slope").get("negative_slope", 0.01)
    value, view = _seen(lowering, node)
    lowering.emit(node, Activation, (value,), view, op="leaky_relu", slope=float(slope))


def prelu(lowering: Lowering, node: fx.Node, part: Any) -> None:
    value = lowering.operand(node)
    shape = lowering.shape(value)
    if len(shape) != 4:
        lowering.refuse(node, f"of shape {shape} is not supported: [N, C, H, W]")
    slope = np.broadcast_to(array(part.weight), (shape[1],))
    lowering.emit(node, Prelu, (value,), slope=np.ascontiguousarray(slope))


def clamp(lowering: Lowering, node: fx.Node, part: Any) -> None:
    """Between 0 and 6 it is relu6, above 0 relu, else a maximum and a minimum."""
    if part is not None:
        low, high = part.min_val, part.max_val
    elif node.target is torch.nn.functional.hardtanh:
        given = lowering.arguments(node, "min_val", "max_val")
        low, high = given.get("min_val", -1.0), given.get("max_val", 1.0)
    else:
        given = lowering.arguments(node, "min", "max")
        low, high = given.get("min"), given.get("max")
    if any(isinstance(bound, fx.Node) for bound in (low, high)):
        lowering.refuse(node, "to a tensor is not supported, only to numbers")
    if low == 0 and high in (None, 6):
        _fuse(lowering, node, "relu" if high is None else "relu6")
        return
    value, view = _seen(lowering, node)
    if low is not None and high is not None:
        bound = _number(lowering, node, value, low, "low")
        shape = lowering.shape(value)
        value = lowering.step(node, "maximum", Arithmetic, (value, bound), shape, op="maximum")
    last, limit = ("maximum", low) if high is None else ("minimum", high)
    if limit is None:
        lowering.refuse(node, "without a limit is not supported")
    bound = _number(lowering, node, value, limit, "limit")
    lowering.emit(node, Arithmetic, (value, bound), view, op=last)


def softmax(lowering: Lowering, node: fx.Node, part: Any) -> None:
    given = _options(lowering, node, part, "dim")
    value, view = _seen(lowering, node)
    rank, dim = len(lowering.shape(value)), given.get("dim")
    channels = 1 if view is None else rank - 1
    if dim is None or dim % rank != channels or len(given.keys() - {"dim", "_stacklevel"}) > 0:
        lowering.refuse(node, f"over dim {dim} is not supported, only over the channels, 1")
    lowering.emit(node, Activation, (value,), view, op=find_op(node, part))


def arithmetic(lowering: Lowering, node: fx.Node, part: Any) -> None:
    """Of two tensors, or of one and a number or parameter, which is folded where it can be."""
    if node.kwargs.keys() - {"input", "other"}:
        lowering.refuse(node, f"with {', '.join(node.kwargs)} given by name is not supported")
    op, left, right = find_op(node, part) or "", lowering.given(node), lowering.given(node, 1)
    fixed = [lowering.constant(one) for one in (left, right)]
    if fixed[0] is None and fixed[1] is None:
        view = lowering.views.get(left) if isinstance(left, fx.Node) else None
        inputs = lowering.value(node, left, view), lowering.value(node, right, view)
        if view is not None and view.kind != "channels last":
            lowering.refuse(node, f"of a tensor {view.kind} is not supported")
        ranks = [len(lowering.shape(value)) for value in inputs]
        if ranks[0] != ranks[1]:
            lowering.refuse(node, f"of tensors of rank {ranks[0]} and {ranks[1]} is not supported")
        lowering.emit(node, Arithmetic, inputs, view, op=op)
    elif fixed[0] is None:
        _with_constant(lowering, node, op, left, fixed[1], first=False)
    else:
        _with_constant(lowering, node, op, right, fixed[0], first=True)


def dropout(lowering: Lowering, node: fx.Node, part: Any) -> None:
    plain = node.target in (torch.nn.functional.dropout, torch.nn.functional.dropout2d)
    names = ("p", "training") if plain else ("p", "mode", "training")
    if part is None and lowering.arguments(node, *names).get("training", True):
        lowering.refuse(node, "is active in evaluation; pass training=self.training")
    identity(lowering, node, part)


def identity(lowering: Lowering, node: fx.Node, part: Any) -> None:
    view = lowering.views.get(lowering.given(node))
    lowering.become(node, lowering.value(node, lowering.given(node), view), view)


def _fuse(lowering: Lowering, node: fx.Node, op: Any) -> None:
    """Where it cannot be fused, the same activation of the same value is computed once."""
    value, view = _seen(lowering, node)
    before = lowering.nodes.get(value)
    takes = isinstance(before, Conv | Linear) or (
        isinstance(before, Arithmetic) and before.op in FUSING
    )
    if takes and before.fused is None and lowering.alone(value):  # type: ignore[union-attr]
        lowering.nodes[value] = msgspec.structs.replace(before, fused=op)  # type: ignore[type-var]
        lowering.become(node, value, view)
    elif (op, value) in lowering.activated:
        lowering.become(node, lowering.activated[op, value], view)
    else:
        lowering.emit(node, Activation, (value,), view, op=op)
        lowering.activated[op, value] = lowering.values[node]


def _with_constant(
    lowering: Lowering, node: fx.Node, op: str, given: Any, fixed: Any, first: bool
) -> None:
    view = lowering.views.get(given)
    value = _seen_as(lowering, node, given, view)
    shape: Any = lowering.shape(value)
    own = lowering.shapes[node]
    numbers: Any = array(torch.as_tensor(fixed), np.float64)
    if numbers.ndim > len(own):
        lowering.refuse(node, f"of tensors of rank {len(own)} and {numbers.ndim} is not supported")
    numbers = numbers.reshape(*(1,) * (len(own) - numbers.ndim), *numbers.shape)
    if view is not None:
        numbers = numbers.transpose(0, 3, 1, 2)
    scale, shift = _linear_form(op, numbers, first)
    per_channel = len(shape) > 1 and all(
        size == 1 for axis, size in enumerate(numbers.shape) if axis != 1
    )
    if scale is not None and per_channel and numbers.shape[1] in (1, shape[1]):
        a, b = (np.broadcast_to(np.ravel(one), (shape[1],)) for one in (scale, shift))
        if fold(lowering, value, a, b):
            lowering.become(node, value, view)
            return
        if len(shape) == 4 and (a != 1).any() and (b != 0).any():
            depthwise(lowering, node, value, a, b, view)
            return
    constant = lowering.step(
        node, "constant", Constant, (), numbers.shape, value=numbers.astype(np.float32)
    )
    inputs = (constant, value) if first else (value, constant)
    lowering.emit(node, Arithmetic, inputs, view, op=op)


def _linear_form(op: str, numbers: Any, first: bool) -> tuple[Any, Any]:
    """Return ``scale`` and ``shift`` of the operation with a constant, or None where it is none."""
    one, zero = np.ones_like(numbers), np.zeros_like(numbers)
    if op == "add":
        return one, numbers
    if op == "sub":
        return (-one, numbers) if first else (one, -numbers)
    if op == "mul":
        return numbers, zero
    if op == "div" and not first:
        return 1.0 / numbers, zero
    return None, None


def _softplus_parts(lowering: Lowering, node: fx.Node, value: str) -> tuple[str, str]:
    """``max(x, 0) + log(1 + exp(-|x|))``, which cannot overflow: return both parts."""
    shape = lowering.shape(value)

    def step(what: str, given: str, op: str) -> str:
        return lowering.step(node, what, Activation, (given,), shape, op=op)

    small = step("exp", step("neg", step("abs", value, "abs"), "neg"), "exp")
    one = _number(lowering, node, value, 1.0, "one")
    more = lowering.step(node, "more", Arithmetic, (small, one), shape, op="add")
    return step("positive", value, "relu"), step("log", more, "log")


def _number(lowering: Lowering, node: fx.Node, value: str, number: Any, what: str) -> str:
    shape = (1,) * len(lowering.shape(value))
    if not isinstance(number, int | float) or not math.isfinite(number):
        lowering.refuse(node, f"with {number!r} is not supported, only with a finite number")
    fixed = np.full(shape, number, np.float32)
    return lowering.step(node, what, Constant, (), shape, value=fixed)


def _options(lowering: Lowering, node: fx.Node, part: Any, *names: str) -> dict[str, Any]:
    """Return a module's or a call's settings by name."""
    if part is not None:
        return {name: getattr(part, name) for name in names if hasattr(part, name)}
    given = lowering.arguments(node, *names)
    given.pop("inplace", None)
    return given


def _seen(lowering: Lowering, node: fx.Node) -> tuple[str, View | None]:
    given = lowering.given(node)
    view = lowering.views.get(given)
    return _seen_as(lowering, node, given, view), view


def _seen_as(lowering: Lowering, node: fx.Node, given: Any, view: View | None) -> str:
    if view is not None and view.kind != "channels last":
        lowering.refuse(node, f"of a tensor {view.kind} is not supported")
    return lowering.value(node, given, view)
