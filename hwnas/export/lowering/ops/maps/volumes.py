"""Lowering of convolutions and pools of volumes ``[N, C, D, H, W]``.

A volume is a batch of its slices along the depth. A convolution reads the slices that a kernel
covers side by side as channels, so that it is one of two dimensions. Pools are lowered axis by
axis.
"""

from __future__ import annotations

from math import prod
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F

from hwnas.export.graph.nodes import Conv, ConvTranspose, WindowPool
from hwnas.export.graph.recording import Call
from hwnas.export.graph.weights import to_array
from hwnas.export.lowering.lowering import LARGEST, Lowering
from hwnas.export.lowering.ops.maps.pool import largest, piecewise_largest
from hwnas.export.lowering.steps import Steps

Triple = tuple[int, int, int]
AXES = (2, 3, 4)
"""Depth, height and width."""


def conv3d(lowering: Lowering, call: Call) -> None:
    weight, groups = _weight(lowering, call), call.args["groups"]
    stride, dilation = _triple(call, "stride"), _triple(call, "dilation")
    sides = _sides(call, weight.shape[2:], dilation)
    outputs, inputs, depth, *size = weight.shape
    slices = _Slices(lowering, call, groups)
    covered = slices.covered(sides[0], depth, dilation[0], stride[0])
    kernel = weight.transpose(0, 2, 1, 3, 4).reshape(outputs, depth * inputs, *size)
    slices.finish(
        Conv,
        covered,
        weight=np.ascontiguousarray(kernel),
        bias=_bias(lowering, call, outputs),
        stride=stride[1:],
        padding=sides[1:],
        dilation=dilation[1:],
        groups=groups,
    )


def conv_transpose3d(lowering: Lowering, call: Call) -> None:
    """Lower the depth to a convolution with zeros between the slices and the kernel turned."""
    weight, groups = _weight(lowering, call), call.args["groups"]
    stride, dilation = _triple(call, "stride"), _triple(call, "dilation")
    padding, more = _triple(call, "padding"), _triple(call, "output_padding")
    inputs, outputs, depth, *size = weight.shape
    slices = _Slices(lowering, call, groups)
    slices.spread(stride[0])
    begin = dilation[0] * (depth - 1) - padding[0]
    covered = slices.covered((begin, begin + more[0]), depth, dilation[0], 1)
    kernel = weight.reshape(groups, inputs // groups, outputs, depth, *size)[:, :, :, ::-1]
    kernel = kernel.transpose(0, 3, 1, 2, 4, 5).reshape(depth * inputs, outputs, *size)
    slices.finish(
        ConvTranspose,
        covered,
        weight=np.ascontiguousarray(kernel),
        bias=_bias(lowering, call, outputs * groups),
        stride=stride[1:],
        begin=padding[1:],
        dilation=dilation[1:],
        groups=groups,
    )


class _Slices:
    """The slices of a convolution's input, ``[N, D, C * H * W]``."""

    def __init__(self, lowering: Lowering, call: Call, groups: int) -> None:
        self.call, self.groups, self.steps = call, groups, Steps(lowering, call)
        self.lowering, value = lowering, lowering.operand(call, "input")
        shape = lowering.shape(value)
        if len(shape) != 5:
            lowering.refuse(call, f"of {list(shape)} is not supported, only of [N, C, D, H, W]")
        self.batch, self.channels, depth, *self.pixels = shape
        moved = self.steps.transpose(value, (0, 2, 1, 3, 4))
        self.value = self.steps.reshape(moved, (self.batch, depth, -1))

    def spread(self, stride: int) -> None:
        """Put ``stride - 1`` slices of zeros between neighbours."""
        if stride == 1:
            return
        batch, depth, elements = self.steps.shape(self.value)
        rows = self.steps.reshape(self.value, (batch, depth, 1, elements))
        rows = self.steps.pad(rows, ((0, 0), (0, 0), (0, stride - 1), (0, 0)), 0.0)
        rows = self.steps.reshape(rows, (batch, depth * stride, elements))
        self.value = self.steps.slice(rows, 1, 0, (depth - 1) * stride + 1)

    def covered(self, sides: tuple[int, int], size: int, dilation: int, stride: int) -> str:
        """Return ``[N * D', groups * size * C / groups, H, W]``: what each kernel covers.

        Sides that are negative cut slices off.
        """
        begin, end = (max(-side, 0) for side in sides)
        depth = self.steps.shape(self.value)[1]
        value = self.steps.slice(self.value, 1, begin, depth - begin - end)
        ends = (max(sides[0], 0), max(sides[1], 0))
        value = self.steps.pad(value, ((0, 0), ends, (0, 0)), 0.0)
        count = self.call.result.shape[2]
        pieces = [
            self.steps.reshape(
                self.steps.slice(value, 1, place * dilation, count, stride),
                (self.batch * count, self.groups, -1),
            )
            for place in range(size)
        ]
        joined = self.steps.concat(pieces, 2)
        return self.steps.reshape(joined, (self.batch * count, -1, *self.pixels))

    def finish(self, kind: Any, value: str, **fields: Any) -> None:
        """Add the convolution of the slices and put its own in the place of the depth."""
        batch, channels, depth, *pixels = self.call.result.shape
        shape = (batch * depth, channels, *pixels)
        maps = self.lowering.step(self.call, "slices", kind, (value,), shape, **fields)
        stacked = self.steps.reshape(maps, (batch, depth, channels, *pixels))
        self.steps.finish(self.steps.transpose(stacked, (0, 2, 1, 3, 4)))


def max_pool3d(lowering: Lowering, call: Call) -> None:
    if len(call.results) > 1 and lowering.waiting[call.results[1]]:
        lowering.refuse(call, "with return_indices=True is not supported")
    value, steps, after = _volume(lowering, call), Steps(lowering, call), call.result.shape
    size, padding, dilation = (_triple(call, n) for n in ("kernel_size", "padding", "dilation"))
    stride = _triple(call, "stride") if call.args["stride"] else size
    for place, axis in enumerate(AXES):
        reach = dilation[place] * (size[place] - 1) + 1
        needed = (after[axis] - 1) * stride[place] + reach
        missing = needed - steps.shape(value)[axis] - padding[place]
        sides = [(0, 0)] * 5
        sides[axis] = (padding[place], max(missing, 0))
        value = steps.pad(value, tuple(sides), -LARGEST)
        window = size[place], stride[place], dilation[place]
        value = largest(steps, value, axis, after[axis], window)
    steps.finish(value)


def avg_pool3d(lowering: Lowering, call: Call) -> None:
    """Lower windows over depth alone, as in local response norm, to windows of one column."""
    value, steps = _volume(lowering, call), Steps(lowering, call)
    size, padding = (_triple(call, name) for name in ("kernel_size", "padding"))
    stride = _triple(call, "stride") if call.args["stride"] else size
    counts, divisor = bool(call.args["count_include_pad"]), call.args["divisor_override"]
    if (*size[1:], *stride[1:], *padding[1:]) == (1, 1, 1, 1, 0, 0) and divisor is None:
        _mean_of_depth(lowering, call, value, size[0], stride[0], padding[0])
        return
    weights = [
        to_array(
            F.avg_pool1d(
                torch.eye(steps.shape(value)[axis])[None],
                size[place],
                stride[place],
                padding[place],
                bool(call.args["ceil_mode"]),
                counts or divisor is not None,
            )[0].t()
        )
        for place, axis in enumerate(AXES)
    ]
    if divisor is not None:  # every window of an axis is divided by its size, then
        sums = [w.astype(bool).astype(np.float32) for w in weights]
        weights = [sums[0] / np.float32(divisor), *sums[1:]]
    steps.finish(_weighted(steps, value, weights))


def adaptive_avg_pool3d(lowering: Lowering, call: Call) -> None:
    value, steps, after = _volume(lowering, call), Steps(lowering, call), call.result.shape
    ones = tuple(axis for axis in AXES if after[axis] == 1)
    value = steps.reduce("mean", value, ones) if ones else value
    weights = [
        None
        if axis in ones or after[axis] == steps.shape(value)[axis]
        else to_array(
            F.adaptive_avg_pool1d(torch.eye(steps.shape(value)[axis])[None], after[axis])[0].t()
        )
        for axis in AXES
    ]
    steps.finish(_weighted(steps, value, weights))


def adaptive_max_pool3d(lowering: Lowering, call: Call) -> None:
    if len(call.results) > 1 and lowering.waiting[call.results[1]]:
        lowering.refuse(call, "with return_indices=True is not supported")
    value, steps = _volume(lowering, call), Steps(lowering, call)
    for axis in AXES:
        value = piecewise_largest(steps, value, axis, call.result.shape[axis])
    steps.finish(value)


def _mean_of_depth(
    lowering: Lowering, call: Call, value: str, size: int, stride: int, padding: int
) -> None:
    steps, (*front, depth, height, width) = Steps(lowering, call), lowering.shape(value)
    rows = steps.reshape(value, (1, prod(front), depth, height * width))
    pooled = lowering.step(
        call,
        "rows",
        WindowPool,
        (rows,),
        (*steps.shape(rows)[:2], call.result.shape[-3], height * width),
        op="mean",
        size=(size, 1),
        stride=(stride, 1),
        padding=((padding, padding), (0, 0)),
        counts_padding=bool(call.args["count_include_pad"] and padding),
    )
    steps.finish(steps.reshape(pooled, call.result.shape))


def _weighted(steps: Steps, value: str, weights: list[Any]) -> str:
    """Return sums of the elements of each axis with weights ``[after, before]``; None: as it is."""
    for axis, weight in zip(AXES, weights, strict=True):
        if weight is None:
            continue
        shape = steps.shape(value)
        rows = steps.reshape(value, (1, prod(shape[:axis]), shape[axis], prod(shape[axis + 1 :])))
        sums = steps.matmul(weight[None, None], rows)
        value = steps.reshape(sums, (*shape[:axis], len(weight), *shape[axis + 1 :]))
    return value


def _volume(lowering: Lowering, call: Call) -> str:
    value = lowering.operand(call)
    shape = lowering.shape(value)
    if len(shape) != 5:
        lowering.refuse(call, f"of {list(shape)} is not supported, only of [N, C, D, H, W]")
    return value


def _weight(lowering: Lowering, call: Call) -> Any:
    weight = lowering.constant(call, "weight")
    assert weight is not None
    return to_array(weight)


def _bias(lowering: Lowering, call: Call, count: int) -> Any:
    bias = lowering.constant(call, "bias")
    return np.zeros(count, np.float32) if bias is None else to_array(bias)


def _triple(call: Call, name: str) -> Triple:
    numbers = call.args[name]
    numbers = [numbers] if isinstance(numbers, int) else list(numbers)
    first, second, third = numbers * 3 if len(numbers) == 1 else numbers
    return first, second, third


def _sides(
    call: Call, size: tuple[int, ...], dilation: Triple
) -> tuple[tuple[int, int], tuple[int, int], tuple[int, int]]:
    """Return the padding of each side; PyTorch's 'same' adds an odd slice at the end."""
    amounts = call.args["padding"]
    if amounts == "valid":
        amounts = [0]
    if amounts == "same":
        totals = [gap * (n - 1) for gap, n in zip(dilation, size, strict=True)]
        first, second, third = ((total // 2, total - total // 2) for total in totals)
    else:
        first, second, third = ((n, n) for n in (list(amounts) * 3)[:3])
    return first, second, third
