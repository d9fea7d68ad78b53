"""Lowering of resizing, in every mode and by every factor, and of sampling at computed points.

What a runtime resizes as PyTorch does is one node. Everything else is linear in rows and in
columns: PyTorch itself computes which pixels, or with which weights, from an identity matrix.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from hwnas.export.graph.nodes import GridSample, Resize
from hwnas.export.graph.recording import Call
from hwnas.export.graph.weights import to_array
from hwnas.export.lowering.lowering import Lowering
from hwnas.export.lowering.ops.maps.pool import weighted_sums
from hwnas.export.lowering.steps import Steps


def nearest(lowering: Lowering, call: Call) -> None:
    value = lowering.operand(call, _input_name(call))
    before, after = lowering.shape(value), call.result.shape
    if before == after:
        lowering.become(call, value)
        return
    if len(before) == 4 and all(new % old == 0 for old, new in zip(before, after, strict=True)):
        lowering.emit(call, Resize, (value,), nearest=True, align_corners=False)
        return
    steps = Steps(lowering, call)
    for axis in range(2, len(before)):
        value = steps.gather(value, axis, _places(call, before, axis))
    steps.finish(value)


def smooth(lowering: Lowering, call: Call) -> None:
    """Lower linear, bilinear and bicubic resizing, with and without antialiasing."""
    value = lowering.operand(call, _input_name(call))
    before, after = lowering.shape(value), call.result.shape
    if before == after:
        lowering.become(call, value)
    elif call.op == "upsample_bilinear2d" and _by_sizes(call, before, after):
        align_corners = bool(call.args["align_corners"])
        lowering.emit(call, Resize, (value,), nearest=False, align_corners=align_corners)
    else:
        _with_weights(lowering, call, value)


MODES = ("bilinear", "nearest", "bicubic")
PADDINGS = ("zeros", "border", "reflection")
"""Modes and paddings of ``grid_sampler`` by PyTorch's numbers."""


def grid_sample(lowering: Lowering, call: Call) -> None:
    """Lower sampling at points that are computed; of maps only."""
    images, points = lowering.operand(call, "input"), lowering.operand(call, "grid")
    if len(lowering.shape(images)) != 4:
        lowering.refuse(call, "of volumes is not supported, only of [N, C, H, W]")
    lowering.emit(
        call,
        GridSample,
        (images, points),
        mode=MODES[call.args["interpolation_mode"]],
        padding=PADDINGS[call.args["padding_mode"]],
        align_corners=bool(call.args["align_corners"]),
    )


def _with_weights(lowering: Lowering, call: Call, value: str) -> None:
    steps, shape = Steps(lowering, call), lowering.shape(value)
    weights = [_weights(call, shape, axis) for axis in range(2, len(shape))]
    if len(shape) == 3:
        steps.finish(steps.matmul(value, weights[0].T[None]))
    elif len(shape) == 4:
        steps.finish(weighted_sums(steps, value, *weights))
    else:
        lowering.refuse(call, f"of {list(shape)} is not supported, only of [N, C, H, W]")


def _places(call: Call, before: tuple[int, ...], axis: int) -> tuple[int, ...]:
    """Return the pixel that each output pixel along ``axis`` repeats."""
    shape = [1] * len(before)
    shape[axis] = before[axis]
    numbers = torch.arange(before[axis], dtype=torch.float32).reshape(shape)
    numbers = numbers.expand(1, 1, *before[2:])
    resized = _call(call, numbers).movedim(axis, 0).flatten(1)[:, 0]
    return tuple(int(number) for number in resized)


def _weights(call: Call, before: tuple[int, ...], axis: int) -> Any:
    """Return the weights ``[after, before]`` along an axis, None if they are the identity."""
    if before[axis] == call.result.shape[axis]:
        return None
    size = before[axis]
    shape = [size, 1, *(1,) * (len(before) - 2)]
    shape[axis] = size
    images = torch.eye(size).reshape(shape).expand(size, 1, *before[2:]).contiguous()
    resized = _call(call, images).movedim(axis, 1).flatten(2)[:, :, 0]
    return to_array(resized.t())


def _call(call: Call, images: Tensor) -> Tensor:
    return call.func(**{**call.args, _input_name(call): images})


def _input_name(call: Call) -> str:
    return "input" if "input" in call.args else "self"


def _by_sizes(call: Call, before: tuple[int, ...], after: tuple[int, ...]) -> bool:
    """Return whether pixels are placed by the sizes, and not by a factor that differs from them."""
    factors = call.args.get("scale_factors")
    if not factors or call.args["align_corners"]:
        return True
    pairs = zip(before[2:], after[2:], factors, strict=True)
    return all(old * factor == new for old, new, factor in pairs)
