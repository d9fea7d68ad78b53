"""Lowering of batch norm, folded where possible, and of layer, group and instance norm."""

from __future__ import annotations

from typing import Any

import numpy as np

from hwnas.export.graph.nodes import LayerNorm
from hwnas.export.graph.recording import Call
from hwnas.export.graph.weights import to_array
from hwnas.export.lowering.fold_affine import emit_depthwise, fold
from hwnas.export.lowering.lowering import Lowering
from hwnas.export.lowering.steps import Steps


def batch_norm(lowering: Lowering, call: Call) -> None:
    """Lower to ``y * scale + shift`` with the running statistics, else with those of the batch.

    ``scale = gain / sqrt(var + eps)``, ``shift = bias - mean * scale``, for each channel.
    """
    args, value = call.args, lowering.operand(call, "input")
    if args["running_mean"] is None or args.get("training"):
        steps, rank = Steps(lowering, call), len(lowering.shape(value))
        normed = _normed(steps, value, (0, *range(2, rank)), args["eps"])
        _gain_and_shift(lowering, call, steps, normed)
        return
    scale, shift = _affine(lowering, call)
    if fold(lowering, value, 1, scale, shift):
        lowering.become(call, value)
    elif len(lowering.shape(value)) == 4:
        emit_depthwise(lowering, call, value, scale, shift)
    else:
        _scale_and_shift(Steps(lowering, call), value, scale, shift)


def instance_norm(lowering: Lowering, call: Call) -> None:
    """Lower a norm over the pixels of each channel, or with running statistics a batch norm."""
    if not call.args["use_input_stats"]:
        batch_norm(lowering, call)
        return
    value, steps = lowering.operand(call, "input"), Steps(lowering, call)
    axes = tuple(range(2, len(lowering.shape(value))))
    normed = _normed(steps, value, axes, call.args["eps"])
    _gain_and_shift(lowering, call, steps, normed)


def group_norm(lowering: Lowering, call: Call) -> None:
    """Lower a norm over groups of channels, which are an axis of their own in between."""
    value, steps = lowering.operand(call, "input"), Steps(lowering, call)
    batch, channels, *pixels = shape = lowering.shape(value)
    groups = call.args["num_groups"]
    if groups == 1:
        normed = _normed(steps, value, tuple(range(1, len(shape))), call.args["eps"])
    else:
        rows = steps.reshape(value, (batch, groups, channels // groups, *pixels))
        axes = tuple(range(2, len(shape) + 1))
        normed = steps.reshape(_normed(steps, rows, axes, call.args["eps"]), shape)
    _gain_and_shift(lowering, call, steps, normed)


def layer_norm(lowering: Lowering, call: Call) -> None:
    """Lower a norm over the last axis to one node, and over several axes to its steps."""
    value, steps = lowering.operand(call, "input"), Steps(lowering, call)
    weight, bias = lowering.constant(call, "weight"), lowering.constant(call, "bias")
    shape, eps = tuple(call.args["normalized_shape"]), float(call.args["eps"])
    gain = np.ones(shape, np.float32) if weight is None else to_array(weight)
    shift = np.zeros(shape, np.float32) if bias is None else to_array(bias)
    if len(shape) == 1:
        lowering.emit(call, LayerNorm, (value,), gain=gain, shift=shift, eps=eps)
        return
    rank = len(lowering.shape(value))
    normed = _normed(steps, value, tuple(range(rank - len(shape), rank)), eps)
    scaled = steps.arithmetic("mul", normed, gain)
    steps.finish(steps.arithmetic("add", scaled, shift))


def rms_norm(lowering: Lowering, call: Call) -> None:
    """Lower ``x / sqrt(mean(x * x) + eps) * gain``."""
    value, steps = lowering.operand(call, "input"), Steps(lowering, call)
    rank, count = len(lowering.shape(value)), len(call.args["normalized_shape"])
    axes, eps = tuple(range(rank - count, rank)), call.args["eps"]
    squares = steps.reduce("mean", steps.arithmetic("mul", value, value), axes)
    eps = float(np.finfo(np.float32).eps) if eps is None else eps
    spread = steps.activation("sqrt", steps.arithmetic("add", squares, eps))
    normed, weight = steps.arithmetic("div", value, spread), lowering.constant(call, "weight")
    if weight is not None:
        normed = steps.arithmetic("mul", normed, to_array(weight))
    steps.finish(normed)


def _affine(lowering: Lowering, call: Call) -> tuple[Any, Any]:
    mean, variance, weight, bias = (
        lowering.constant(call, name) for name in ("running_mean", "running_var", "weight", "bias")
    )
    assert mean is not None and variance is not None
    gain = 1.0 if weight is None else to_array(weight, np.float64)
    scale = gain / np.sqrt(to_array(variance, np.float64) + call.args["eps"])
    shift = 0.0 if bias is None else to_array(bias, np.float64)
    return scale, shift - to_array(mean, np.float64) * scale


def _normed(steps: Steps, value: str, axes: tuple[int, ...], eps: float) -> str:
    """Return ``(x - mean) / sqrt(var + eps)`` over ``axes``."""
    centred = steps.arithmetic("sub", value, steps.reduce("mean", value, axes))
    squares = steps.arithmetic("mul", centred, centred)
    more = steps.arithmetic("add", steps.reduce("mean", squares, axes), eps)
    return steps.arithmetic("div", centred, steps.activation("sqrt", more))


def _gain_and_shift(lowering: Lowering, call: Call, steps: Steps, normed: str) -> None:
    """Multiply by the weight and add the bias of each channel, where there are any."""
    weight, bias = lowering.constant(call, "weight"), lowering.constant(call, "bias")
    channels = lowering.shape(normed)[1]
    if weight is None and bias is None:
        steps.finish(normed)
        return
    scale = np.ones(channels) if weight is None else to_array(weight)
    shift = np.zeros(channels) if bias is None else to_array(bias)
    _scale_and_shift(steps, normed, scale, shift)


def _scale_and_shift(steps: Steps, value: str, scale: Any, shift: Any) -> None:
    shape = (1, -1, *(1,) * (len(steps.shape(value)) - 2))
    scaled = steps.arithmetic("mul", value, scale.reshape(shape))
    steps.finish(steps.arithmetic("add", scaled, shift.reshape(shape)))
