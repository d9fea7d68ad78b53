"""Pools over windows and over whole maps."""

from __future__ import annotations

import math
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from hwnas.export.onnx_reader.node import OnnxNode
from hwnas.export.onnx_reader.registry import reads
from hwnas.export.onnx_reader.windows import Ends, Window, padded, window

MAX_POOLS: dict[int, Any] = {1: F.max_pool1d, 2: F.max_pool2d, 3: F.max_pool3d}
MEAN_POOLS: dict[int, Any] = {1: F.avg_pool1d, 2: F.avg_pool2d, 3: F.avg_pool3d}


@reads("MaxPool")
def max_pool(node: OnnxNode, x: Tensor) -> Tensor:
    """Take the maximum of windows, which are padded so that every one is complete."""
    place = _window(node, x)
    return MAX_POOLS[x.dim() - 2](
        padded(x, _complete(x, place), -math.inf),
        tuple(place.sizes),
        tuple(place.strides),
        0,
        tuple(place.dilations),
    )


@reads("AveragePool")
def average_pool(node: OnnxNode, x: Tensor) -> Tensor:
    """Take the mean of windows, with or without the padding that the file states."""
    place = _window(node, x)
    pool, sizes, strides = MEAN_POOLS[x.dim() - 2], tuple(place.sizes), tuple(place.strides)
    if any(gap != 1 for gap in place.dilations):
        node.refuse("has dilations, which is not supported")
    sides, ends = place.sides, _complete(x, place)
    counted = bool(node.integer("count_include_pad", 0))
    begins = tuple(before for before, _ in sides)
    if not any(map(any, ends)):
        return pool(x, sizes, strides)
    if all(2 * before <= size for before, size in zip(begins, sizes, strict=True)):
        for ceil in (False, True):
            same_ends = ends == [(before, before) for before in begins]
            if (not counted or (same_ends and not ceil)) and place.counts == _counts(
                x, place, begins, ceil
            ):
                return pool(x, sizes, strides, begins, ceil, counted)
    sums = pool(padded(x, ends, 0.0), sizes, strides)
    return sums * _share(x, place, ends, sides if counted else None)


@reads("LpPool")
def lp_pool(node: OnnxNode, x: Tensor) -> Tensor:
    """Take the norm of windows: the root of a mean times the number of elements."""
    place, power = _window(node, x), node.integer("p", 2)
    if any(gap != 1 for gap in place.dilations):
        node.refuse("has dilations, which is not supported")
    powers = padded(x.abs().pow(power), _complete(x, place), 0.0)
    means = MEAN_POOLS[x.dim() - 2](powers, tuple(place.sizes), tuple(place.strides))
    return (means * math.prod(place.sizes)).pow(1 / power)


@reads("GlobalAveragePool")
def global_average_pool(node: OnnxNode, x: Tensor) -> Tensor:
    return F.adaptive_avg_pool2d(x, 1) if x.dim() == 4 else x.mean(_pixels(x), keepdim=True)


@reads("GlobalMaxPool")
def global_max_pool(node: OnnxNode, x: Tensor) -> Tensor:
    return x.amax(_pixels(x), keepdim=True)


@reads("GlobalLpPool")
def global_lp_pool(node: OnnxNode, x: Tensor) -> Tensor:
    power = node.integer("p", 2)
    return x.abs().pow(power).sum(_pixels(x), keepdim=True).pow(1 / power)


def _window(node: OnnxNode, x: Tensor) -> Window:
    if x.dim() - 2 not in MAX_POOLS:
        node.refuse(f"has {x.dim() - 2} dimensions; only 1 to 3 are supported")
    return window(node, x.shape[2:], node.integers("kernel_shape"))


def _complete(x: Tensor, place: Window) -> Ends:
    """Return the padding with which the last window ends at the end, or before it."""
    ends: Ends = []
    for axis, (before, _) in enumerate(place.sides):
        needed = (place.counts[axis] - 1) * place.strides[axis] + place.reaches[axis]
        ends.append((before, max(needed - x.shape[2 + axis] - before, 0)))
    return ends


def _counts(x: Tensor, place: Window, begins: tuple[int, ...], ceil: bool) -> list[int]:
    """Return how many windows PyTorch computes with equal padding at both ends."""
    counts: list[int] = []
    for axis, before in enumerate(begins):
        size, stride = x.shape[2 + axis], place.strides[axis]
        rest = size + 2 * before - place.sizes[axis]
        count = (-(-rest // stride) if ceil else rest // stride) + 1
        counts.append(count - 1 if ceil and (count - 1) * stride >= size + before else count)
    return counts


def _share(x: Tensor, place: Window, ends: Ends, counted: Ends | None) -> Tensor:
    """Return by what the mean of a padded window is multiplied, since not all padding counts."""
    ones = torch.ones((1, 1, *x.shape[2:]))
    if counted is not None:  # windows reach at most to the end of the padding
        limits = [
            (before, min(after, end))
            for (before, after), (_, end) in zip(counted, ends, strict=True)
        ]
        ones = padded(ones, limits, 1.0)
        ends = [(0, end - after) for (_, end), (_, after) in zip(ends, limits, strict=True)]
    pool = MEAN_POOLS[x.dim() - 2]
    return 1 / pool(padded(ones, ends, 0.0), tuple(place.sizes), tuple(place.strides))


def _pixels(x: Tensor) -> tuple[int, ...]:
    return tuple(range(2, x.dim()))
