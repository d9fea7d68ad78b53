"""Lowering of convolutions and transposed convolutions, of one and two dimensions."""

from __future__ import annotations

from typing import Any

import numpy as np

from hwnas.export.graph.nodes import Conv, ConvTranspose, Pad, Sides
from hwnas.export.graph.recording import Call, Shape, Value
from hwnas.export.graph.weights import to_array
from hwnas.export.lowering.lowering import Lowering
from hwnas.export.lowering.ops.maps.volumes import conv3d, conv_transpose3d
from hwnas.export.lowering.steps import Steps

Pair = tuple[int, int]


def conv(lowering: Lowering, call: Call) -> None:
    """Lower a convolution; a zero padding before it that has no other reader is merged into it."""
    if isinstance(call.args["weight"], Value):
        _with_computed_weight(lowering, call)
        return
    value, weight = _input(lowering, call), _weight(lowering, call)
    padding = _padding(call.args["padding"], call, weight.shape)
    before = lowering.nodes.get(value)
    if isinstance(before, Pad) and _only_zeros(before) and lowering.has_one_reader(value):
        (top, bottom), (left, right) = before.sides[2:]
        (up, down), (west, east) = padding
        padding = ((top + up, bottom + down), (left + west, right + east))
        lowering.drop(value)
        value = before.inputs[0]
    dilation = _pair(call, "dilation")
    weight, padding = _trimmed(weight, padding, dilation)
    _emit(
        lowering,
        call,
        Conv,
        value,
        weight=weight,
        bias=_bias(lowering, call, len(weight)),
        stride=_pair(call, "stride"),
        padding=padding,
        dilation=dilation,
        groups=call.args["groups"],
    )


def conv_transpose(lowering: Lowering, call: Call) -> None:
    weight, groups = _weight(lowering, call), call.args["groups"]
    one_dimensional = len(call.result.shape) == 3
    begin = (0, call.args["padding"][0]) if one_dimensional else _pair(call, "padding")
    _emit(
        lowering,
        call,
        ConvTranspose,
        _input(lowering, call),
        weight=weight,
        bias=_bias(lowering, call, weight.shape[1] * groups),
        stride=_pair(call, "stride"),
        begin=begin,
        dilation=_pair(call, "dilation"),
        groups=groups,
    )


def convolution(lowering: Lowering, call: Call) -> None:
    """Lower the general form, which decompositions contain."""
    volume = len(call.args["weight"].shape) == 5
    forms = (conv3d, conv_transpose3d) if volume else (conv, conv_transpose)
    forms[bool(call.args["transposed"])](lowering, call)


def unfold(lowering: Lowering, call: Call) -> None:
    """Lower ``im2col`` to a depthwise convolution whose kernels each read one place."""
    size, stride, dilation = (_pair(call, name) for name in ("kernel_size", "stride", "dilation"))
    rows, columns = _pair(call, "padding")
    padding = ((rows, rows), (columns, columns))
    patches = _patches(lowering, call, lowering.operand(call), size, stride, padding, dilation)
    lowering.become(call, patches)


def _patches(
    lowering: Lowering, call: Call, value: str, size: Pair, stride: Pair, padding: Sides,
    dilation: Pair,
) -> str:  # fmt: skip
    """Return the pixels of each window, ``[N, C * h * w, H, W]``."""
    batch, channels, *pixels = lowering.shape(value)
    places = size[0] * size[1]
    kernels = np.eye(places, dtype=np.float32).reshape(places, 1, *size)
    counts = [
        (n + sum(sides) - gap * (k - 1) - 1) // jump + 1
        for n, sides, gap, k, jump in zip(pixels, padding, dilation, size, stride, strict=True)
    ]
    return lowering.step(
        call,
        "patches",
        Conv,
        (value,),
        (batch, channels * places, *counts),
        weight=np.tile(kernels, (channels, 1, 1, 1)),
        bias=np.zeros(channels * places, np.float32),
        stride=stride,
        padding=padding,
        dilation=dilation,
        groups=channels,
    )


def _with_computed_weight(lowering: Lowering, call: Call) -> None:
    """Lower a convolution whose weight is computed to products with the pixels of each window."""
    value, steps, groups = _input(lowering, call), Steps(lowering, call), call.args["groups"]
    weight = lowering.operand(call, "weight")
    outputs, inputs, *size = lowering.shape(weight)
    kernel = (1, size[0]) if len(size) == 1 else (size[0], size[1])
    padding = _padding(call.args["padding"], call, (outputs, inputs, *kernel))
    stride, dilation = _pair(call, "stride"), _pair(call, "dilation")
    patches = _patches(lowering, call, value, kernel, stride, padding, dilation)
    batch, rows, *pixels = lowering.shape(patches)
    columns = steps.reshape(patches, (batch, groups, rows // groups, -1))
    kernels = steps.reshape(weight, (1, groups, outputs // groups, rows // groups))
    sums = steps.reshape(steps.matmul(kernels, columns), (batch, outputs, *pixels))
    if call.args["bias"] is not None:
        bias = steps.reshape(lowering.name(call, call.args["bias"]), (1, outputs, 1, 1))
        sums = steps.arithmetic("add", sums, bias)
    steps.finish(steps.reshape(sums, call.result.shape))


def fold(lowering: Lowering, call: Call) -> None:
    """Lower ``col2im`` to a transposed convolution whose kernels each write one place."""
    value, size = lowering.operand(call), _pair(call, "kernel_size")
    padding, stride, dilation = (_pair(call, name) for name in ("padding", "stride", "dilation"))
    batch, channels, *pixels = call.result.shape
    counts = [
        (n + 2 * pad - gap * (k - 1) - 1) // jump + 1
        for n, pad, gap, k, jump in zip(pixels, padding, dilation, size, stride, strict=True)
    ]
    places = size[0] * size[1]
    kernels = np.eye(places, dtype=np.float32).reshape(places, 1, *size)
    patches = Steps(lowering, call).reshape(value, (batch, channels * places, *counts))
    lowering.emit(
        call,
        ConvTranspose,
        (patches,),
        weight=np.tile(kernels, (channels, 1, 1, 1)),
        bias=np.zeros(channels, np.float32),
        stride=stride,
        begin=padding,
        dilation=dilation,
        groups=channels,
    )


def _emit(lowering: Lowering, call: Call, kind: Any, value: str, **fields: Any) -> None:
    """Add the node; that of a one-dimensional convolution has a height of 1."""
    shape = call.result.shape
    if len(shape) == 4:
        lowering.emit(call, kind, (value,), **fields)
        return
    whole: Shape = (*shape[:2], 1, shape[2])
    node = lowering.step(call, "row", kind, (value,), whole, **fields)
    lowering.become(call, node)


def _input(lowering: Lowering, call: Call) -> str:
    value = lowering.operand(call, "input")
    shape = lowering.shape(value)
    if len(shape) == 3 and len(call.args["weight"].shape) == 3:
        return Steps(lowering, call).reshape(value, (*shape[:2], 1, shape[2]))
    if len(shape) != 4:
        lowering.refuse(call, f"of {list(shape)} is not supported, only of 3 and 4 axes")
    return value


def _weight(lowering: Lowering, call: Call) -> Any:
    """Return the weight ``[O, I, h, w]``; a one-dimensional kernel has a height of 1."""
    weight = lowering.constant(call, "weight")
    assert weight is not None
    return to_array(weight if weight.dim() == 4 else weight.unsqueeze(2))


def _bias(lowering: Lowering, call: Call, count: int) -> Any:
    bias = lowering.constant(call, "bias")
    return np.zeros(count, np.float32) if bias is None else to_array(bias)


def _pair(call: Call, name: str) -> Pair:
    """Return a setting for (height, width); one number of a 1-D convolution is for the width."""
    numbers = call.args[name]
    numbers = [numbers] if isinstance(numbers, int) else list(numbers)
    if len(numbers) == 2:
        return numbers[0], numbers[1]
    one_dimensional = len(call.result.shape) == 3 and call.op not in ("im2col", "col2im")
    return (1, numbers[0]) if one_dimensional else (numbers[0], numbers[0])


def _padding(amounts: Any, call: Call, kernel: tuple[int, ...]) -> Sides:
    """Return the padding of each side; PyTorch's 'same' adds an odd pixel at the end."""
    if amounts == "valid":
        return (0, 0), (0, 0)
    if amounts == "same":
        dilation = _pair(call, "dilation")
        rows, columns = (d * (k - 1) for d, k in zip(dilation, kernel[2:], strict=True))
        return (rows // 2, rows - rows // 2), (columns // 2, columns - columns // 2)
    one_dimensional = len(call.result.shape) == 3
    rows, columns = (0, amounts[0]) if one_dimensional else (amounts[0], amounts[-1])
    return (rows, rows), (columns, columns)


def _trimmed(weight: Any, padding: Sides, dilation: tuple[int, int]) -> tuple[Any, Sides]:
    """Take off zeros before a kernel that only make its padding symmetric."""
    sides = list(padding)
    for axis, gap in enumerate(dilation, start=2):
        before, after = sides[axis - 2]
        if weight.shape[axis] > 1 and before >= gap and not weight.take(0, axis).any():
            weight = np.delete(weight, 0, axis)
            sides[axis - 2] = before - gap, after
    return weight, (sides[0], sides[1])


def _only_zeros(pad: Pad) -> bool:
    """Return whether ``pad`` adds zeros to height and width alone."""
    return pad.value == 0.0 and len(pad.sides) == 4 and pad.sides[:2] == ((0, 0), (0, 0))
