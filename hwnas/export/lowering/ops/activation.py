"""Lowering of functions of each element, and of softmax."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np
from torch import Tensor

from hwnas.export.graph.nodes import Activation, Arithmetic, Conv, Linear, Prelu
from hwnas.export.graph.recording import Call
from hwnas.export.graph.weights import to_array
from hwnas.export.lowering.lowering import Lowering
from hwnas.export.lowering.steps import Steps

FUSING_ARITHMETIC = ("add", "sub", "mul", "div")
"""Operations that may carry a ReLU."""
SELU_ALPHA, SELU_SCALE = 1.6732632423543772, 1.0507009873554805
"""Constants of SELU (Klambauer et al., NeurIPS 2017, arXiv:1706.02515)."""


def fusible(lowering: Lowering, call: Call) -> None:
    """Lower ReLU and ReLU6, which are fused into the node before if it has no other reader."""
    _fuse(lowering, call, call.op)


def unary(op: str) -> Callable[[Lowering, Call], None]:
    """Return the lowering of an activation without settings."""

    def lower(lowering: Lowering, call: Call) -> None:
        lowering.emit(call, Activation, (lowering.operand(call),), op=op)

    return lower


def silu(lowering: Lowering, call: Call) -> None:
    """Lower to ``x * sigmoid(x)``."""
    value, steps = lowering.operand(call), Steps(lowering, call)
    steps.finish(steps.arithmetic("mul", value, steps.activation("sigmoid", value)))


def softplus(lowering: Lowering, call: Call) -> None:
    """Lower to ``log(1 + exp(beta x)) / beta``, or ``x`` where ``beta x`` is above the threshold.

    From 15 on they are the same in float32.
    """
    value, steps, beta = lowering.operand(call), Steps(lowering, call), call.args["beta"]
    scaled = value if beta == 1 else steps.arithmetic("mul", value, beta)
    soft = _softplus(steps, scaled)
    soft = soft if beta == 1 else steps.arithmetic("div", soft, beta)
    if (limit := call.args["threshold"]) < 15:
        soft = steps.select("gt", scaled, limit, value, soft)
    steps.finish(soft)


def log_sigmoid(lowering: Lowering, call: Call) -> None:
    """Lower to ``-softplus(-x)``."""
    steps = Steps(lowering, call)
    negative = steps.activation("neg", lowering.operand(call))
    steps.finish(steps.activation("neg", _softplus(steps, negative)))


def mish(lowering: Lowering, call: Call) -> None:
    """Lower to ``x * tanh(softplus(x))``."""
    value, steps = lowering.operand(call), Steps(lowering, call)
    gate = steps.activation("tanh", _softplus(steps, value))
    steps.finish(steps.arithmetic("mul", value, gate))


def gelu(lowering: Lowering, call: Call) -> None:
    op = {"none": "gelu", "tanh": "gelu_tanh"}[call.args["approximate"]]
    lowering.emit(call, Activation, (lowering.operand(call),), op=op)


def elu(lowering: Lowering, call: Call) -> None:
    args = call.args
    _elu(lowering, call, args["alpha"], args.get("scale", 1), args.get("input_scale", 1))


def selu(lowering: Lowering, call: Call) -> None:
    _elu(lowering, call, SELU_ALPHA, SELU_SCALE, 1)


def celu(lowering: Lowering, call: Call) -> None:
    _elu(lowering, call, call.args["alpha"], 1, 1 / call.args["alpha"])


def rrelu(lowering: Lowering, call: Call) -> None:
    """Lower to a leaky ReLU: in evaluation the slope is the mean of its bounds."""
    slope = (call.args["lower"] + call.args["upper"]) / 2
    lowering.emit(call, Activation, (lowering.operand(call),), op="leaky_relu", slope=slope)


def leaky_relu(lowering: Lowering, call: Call) -> None:
    slope = float(call.args["negative_slope"])
    lowering.emit(call, Activation, (lowering.operand(call),), op="leaky_relu", slope=slope)


def prelu(lowering: Lowering, call: Call) -> None:
    value, weight = lowering.operand(call), lowering.constant(call, "weight")
    assert weight is not None
    shape, slope = lowering.shape(value), to_array(weight).reshape(-1)
    if len(shape) == 4:
        slope = np.ascontiguousarray(np.broadcast_to(slope, (shape[1],)))
        lowering.emit(call, Prelu, (value,), slope=slope)
        return
    steps = Steps(lowering, call)
    per_channel = slope.reshape(1, -1, *(1,) * (len(shape) - 2))
    negative = steps.arithmetic("minimum", value, 0.0)
    scaled = steps.arithmetic("mul", negative, per_channel)
    steps.finish(steps.arithmetic("add", steps.activation("relu", value), scaled))


def clamp(lowering: Lowering, call: Call) -> None:
    """Lower to ReLU6 for bounds 0 and 6, to ReLU for 0 alone, else to a maximum and a minimum."""
    args = call.args
    low, high = args.get("min", args.get("min_val")), args.get("max", args.get("max_val"))
    numbers = not isinstance(low, Tensor) and not isinstance(high, Tensor)
    if numbers and low == 0 and high in (None, 6):
        _fuse(lowering, call, "relu" if high is None else "relu6")
        return
    steps, value = Steps(lowering, call), lowering.operand(call)
    for op, bound in (("maximum", low), ("minimum", high)):
        if bound is not None:
            value = steps.arithmetic(op, value, lowering.name(call, bound))
    steps.finish(value)


def relu6(lowering: Lowering, call: Call) -> None:
    _fuse(lowering, call, "relu6")


def threshold(lowering: Lowering, call: Call) -> None:
    value, steps = lowering.operand(call), Steps(lowering, call)
    limit, other = call.args["threshold"], call.args["value"]
    steps.finish(steps.select("gt", value, limit, value, other))


def hardshrink(lowering: Lowering, call: Call) -> None:
    value, steps = lowering.operand(call), Steps(lowering, call)
    size = steps.activation("abs", value)
    steps.finish(steps.select("gt", size, call.args["lambd"], value, 0.0))


def softshrink(lowering: Lowering, call: Call) -> None:
    """Lower to ``x - clamp(x, -lambda, lambda)``."""
    value, steps, bound = lowering.operand(call), Steps(lowering, call), call.args["lambd"]
    near = steps.arithmetic("minimum", steps.arithmetic("maximum", value, -bound), bound)
    steps.finish(steps.arithmetic("sub", value, near))


def reciprocal(lowering: Lowering, call: Call) -> None:
    steps = Steps(lowering, call)
    steps.finish(steps.arithmetic("div", 1.0, lowering.operand(call)))


def rsqrt(lowering: Lowering, call: Call) -> None:
    steps = Steps(lowering, call)
    root = steps.activation("sqrt", lowering.operand(call))
    steps.finish(steps.arithmetic("div", 1.0, root))


def sign(lowering: Lowering, call: Call) -> None:
    value, steps = lowering.operand(call), Steps(lowering, call)
    not_positive = steps.select("lt", value, 0.0, -1.0, 0.0)
    steps.finish(steps.select("gt", value, 0.0, 1.0, not_positive))


def scaled_exp(base: float) -> Callable[[Lowering, Call], None]:
    """Return the lowering of a power of ``base``."""

    def lower(lowering: Lowering, call: Call) -> None:
        steps = Steps(lowering, call)
        exponent = steps.arithmetic("mul", lowering.operand(call), math.log(base))
        steps.finish(steps.activation("exp", exponent))

    return lower


def scaled_log(base: float) -> Callable[[Lowering, Call], None]:
    """Return the lowering of a logarithm to ``base``."""

    def lower(lowering: Lowering, call: Call) -> None:
        steps = Steps(lowering, call)
        natural = steps.activation("log", lowering.operand(call))
        steps.finish(steps.arithmetic("mul", natural, 1 / math.log(base)))

    return lower


def hyperbolic(sign: str) -> Callable[[Lowering, Call], None]:
    """Return the lowering of ``(exp(x) + exp(-x)) / 2``, or with ``sub`` of the difference."""

    def lower(lowering: Lowering, call: Call) -> None:
        value, steps = lowering.operand(call), Steps(lowering, call)
        powers = (
            steps.activation("exp", value),
            steps.activation("exp", steps.activation("neg", value)),
        )
        steps.finish(steps.arithmetic("mul", steps.arithmetic(sign, *powers), 0.5))

    return lower


def log1p(lowering: Lowering, call: Call) -> None:
    steps = Steps(lowering, call)
    steps.finish(steps.activation("log", steps.arithmetic("add", lowering.operand(call), 1.0)))


def expm1(lowering: Lowering, call: Call) -> None:
    steps = Steps(lowering, call)
    steps.finish(steps.arithmetic("sub", steps.activation("exp", lowering.operand(call)), 1.0))


def erf(lowering: Lowering, call: Call) -> None:
    steps = Steps(lowering, call)
    steps.finish(error_function(steps, lowering.operand(call)))


def error_function(steps: Steps, value: str) -> str:
    """Return ``erf(x) = 2 * gelu(y) / y - 1`` for ``y = sqrt(2) x``, 0 at 0."""
    scaled = steps.arithmetic("mul", value, math.sqrt(2))
    apart = steps.select("eq", scaled, 0.0, 1.0, scaled)
    ratio = steps.arithmetic("div", steps.activation("gelu", apart), apart)
    curve = steps.arithmetic("sub", steps.arithmetic("mul", ratio, 2.0), 1.0)
    return steps.select("eq", scaled, 0.0, 0.0, curve)


def softmax(lowering: Lowering, call: Call) -> None:
    value = lowering.operand(call)
    rank = len(lowering.shape(value))
    op = "log_softmax" if "log" in call.op else "softmax"
    lowering.emit(call, Activation, (value,), op=op, axis=call.args["dim"] % rank)


def _fuse(lowering: Lowering, call: Call, op: Any) -> None:
    """Fuse ``op`` into the node before it, else compute it once for each value."""
    value = lowering.operand(call)
    before = lowering.nodes.get(value)
    can_fuse = isinstance(before, Conv | Linear) or (
        isinstance(before, Arithmetic) and before.op in FUSING_ARITHMETIC
    )
    if can_fuse and before.fused is None and lowering.has_one_reader(value):  # type: ignore[union-attr]
        lowering.replace(value, fused=op)
        lowering.become(call, value)
    elif (op, value) in lowering.activated:
        lowering.become(call, lowering.activated[op, value])
    else:
        lowering.emit(call, Activation, (value,), op=op)
        lowering.activated[op, value] = lowering.values[call.result]


def _elu(lowering: Lowering, call: Call, alpha: float, scale: float, input_scale: float) -> None:
    """Lower ``scale * x`` above 0, and ``scale * alpha * (exp(input_scale * x) - 1)`` below."""
    value, steps = lowering.operand(call), Steps(lowering, call)
    if alpha == scale == input_scale == 1:
        lowering.emit(call, Activation, (value,), op="elu")
        return
    below = steps.arithmetic("minimum", value, 0.0)
    if input_scale != 1:
        below = steps.arithmetic("mul", below, input_scale)
    below = steps.arithmetic("mul", steps.activation("elu", below), scale * alpha)
    above = steps.activation("relu", value)
    if scale != 1:
        above = steps.arithmetic("mul", above, scale)
    steps.finish(steps.arithmetic("add", above, below))


def _softplus(steps: Steps, value: str) -> str:
    """Add ``max(x, 0) + log(1 + exp(-|x|))``, a softplus that cannot overflow."""
    small = steps.activation("exp", steps.activation("neg", steps.activation("abs", value)))
    more = steps.arithmetic("add", small, 1.0)
    return steps.arithmetic("add", steps.activation("relu", value), steps.activation("log", more))
