"""Resizing in every mode: which pixels, or with which weights, each output pixel is made of.

Coordinates are computed in float32, as ONNX Runtime does. What PyTorch resizes alike is one of its
operations, and so one node of the compiler's graph; the rest are lists of pixels or two products.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from hwnas.export.onnx_reader.node import OnnxNode
from hwnas.export.onnx_reader.registry import reads


class Axis(NamedTuple):
    """How an axis is resized."""

    before: int
    after: int
    scale: np.float32


@reads("Upsample")
def upsample(node: OnnxNode, x: Tensor, scales: Tensor | None = None) -> Tensor:
    given = None if scales is None else node.constant(scales, "scales").tolist()
    factors = node.attributes.get("scales") if given is None else given
    if factors is None:
        node.refuse("states no scales")
    axes = [_scaled(size, factor) for size, factor in zip(x.shape, factors, strict=True)]
    return _resized(node, x, axes)


GRID_MODES = {"linear": "bilinear", "cubic": "bicubic"}
"""Names of opset 20 in PyTorch."""


@reads("GridSample")
def grid_sample(node: OnnxNode, x: Tensor, grid: Tensor) -> Tensor:
    mode = node.text("mode", "bilinear")
    return torch.nn.functional.grid_sample(
        x,
        grid,
        GRID_MODES.get(mode, mode),
        node.text("padding_mode", "zeros"),
        bool(node.integer("align_corners", 0)),
    )


@reads("Resize")
def resize(node: OnnxNode, x: Tensor, *more: Tensor | None) -> Tensor:
    """Resize by scales or to sizes, which are the inputs behind an unused region of interest."""
    more = (None, *more) if node.version < 11 else more
    scales, sizes = ((*more, None, None, None)[place] for place in (1, 2))
    axes = node.axes(None, x.dim(), list(range(x.dim())))
    whole = [Axis(size, size, np.float32(1)) for size in x.shape]
    if sizes is not None and sizes.numel():
        given = node.numbers(sizes, "sizes")
        for axis, new in zip(axes, _kept_ratio(node, x, axes, given), strict=True):
            whole[axis] = new
    elif scales is not None and scales.numel():
        for axis, factor in zip(axes, node.constant(scales, "scales").tolist(), strict=True):
            whole[axis] = _scaled(x.shape[axis], factor)
    else:
        node.refuse("states neither scales nor sizes")
    return _resized(node, x, whole)


def _scaled(size: int, factor: float) -> Axis:
    scale = np.float32(factor)
    return Axis(size, int(np.floor(np.float32(size) * scale)), scale)


def _kept_ratio(node: OnnxNode, x: Tensor, axes: list[int], sizes: list[int]) -> list[Axis]:
    """Return the axes for the sizes, of which a policy may choose one to scale all by."""
    policy = node.text("keep_aspect_ratio_policy", "stretch")
    befores = [x.shape[axis] for axis in axes]
    factors = [np.float32(new) / np.float32(old) for new, old in zip(sizes, befores, strict=True)]
    if policy == "stretch":
        triples = zip(befores, sizes, factors, strict=True)
        return [Axis(*triple) for triple in triples]
    factor = (max if policy == "not_smaller" else min)(factors)
    return [Axis(old, int(np.floor(old * factor + 0.5)), factor) for old in befores]


def _resized(node: OnnxNode, x: Tensor, axes: list[Axis]) -> Tensor:
    changed = [
        place for place, axis in enumerate(axes) if (axis.scale, axis.after) != (1, axis.before)
    ]
    if not changed:
        return x
    if node.text("mode", "nearest") == "nearest":
        return _nearest(node, x, axes, changed)
    weights = {place: _weights(node, axes[place]) for place in changed}
    if x.dim() == 4 and set(changed) <= {2, 3}:
        size = axes[2].after, axes[3].after
        for align_corners in (False, True):
            if all(
                np.allclose(weights[place], _plain(axes[place], align_corners), atol=1e-5)
                for place in changed
            ):
                return F.interpolate(x, size, mode="bilinear", align_corners=align_corners)
    for place, matrix in weights.items():
        x = _product(x, torch.from_numpy(matrix), place)
    return x


def _nearest(node: OnnxNode, x: Tensor, axes: list[Axis], changed: list[int]) -> Tensor:
    pixels = {place: _pixels(node, axes[place]) for place in changed}
    size = [axis.after for axis in axes[2:]]
    repeats = x.dim() == 4 and set(changed) <= {2, 3} and all(
        new % old == 0 for new, old in zip(size, x.shape[2:], strict=True)
    )  # fmt: skip
    if repeats and all(
        (
            pixels[place]
            == np.arange(axes[place].after) // (axes[place].after // axes[place].before)
        ).all()
        for place in changed
    ):
        return F.interpolate(x, size, mode="nearest")
    for place, indices in pixels.items():
        x = x.index_select(place, torch.from_numpy(indices))
    return x


def _product(x: Tensor, weights: Tensor, axis: int) -> Tensor:
    """Return weighted sums ``[after, before]`` along an axis."""
    if axis == x.dim() - 2:
        return torch.matmul(weights, x)
    return torch.matmul(x.transpose(axis, -1), weights.t()).transpose(axis, -1)


def _plain(axis: Axis, align_corners: bool) -> Any:
    """Return the weights ``[after, before]`` with which PyTorch resizes to a size."""
    if axis.before == axis.after:
        return np.eye(axis.before, dtype=np.float32)
    identity = torch.eye(axis.before)[None]
    resized = F.interpolate(identity, axis.after, mode="linear", align_corners=align_corners)
    return resized[0].t().contiguous().numpy()


def _places(node: OnnxNode, axis: Axis) -> Any:
    """Return which place of the input, between pixels, each output pixel stands for."""
    default = "half_pixel" if node.op == "Resize" and node.version >= 11 else "asymmetric"
    mode = node.text("coordinate_transformation_mode", default)
    before, after, scale = axis
    out = np.arange(after, dtype=np.float32)
    half = np.float32(0.5)
    if mode == "asymmetric":
        return out / scale
    if mode == "half_pixel" or (mode == "pytorch_half_pixel" and after > 1):
        return (out + half) / scale - half
    if mode == "pytorch_half_pixel":
        return np.zeros(after, np.float32)
    if mode == "tf_half_pixel_for_nn":
        return (out + half) / scale
    if mode == "align_corners":
        if after == 1:
            return np.zeros(after, np.float32)
        return out * np.float32(before - 1) / np.float32(after - 1)
    if mode == "half_pixel_symmetric":
        adjustment = np.float32(after) / (scale * np.float32(before))
        offset = np.float32(before) / np.float32(2) * (1 - adjustment)
        return offset + (out + half) / scale - half
    node.refuse(f"has coordinate_transformation_mode {mode!r}, which is not supported")


def _pixels(node: OnnxNode, axis: Axis) -> Any:
    """Return which pixel each output pixel repeats."""
    places = _places(node, axis)
    if node.op == "Upsample" or node.version < 11:
        rounded = np.ceil(places) if axis.scale < 1 else np.trunc(places)
    else:
        mode = node.text("nearest_mode", "round_prefer_floor")
        half = np.float32(0.5)
        rounded = {
            "floor": lambda: np.floor(places),
            "ceil": lambda: np.ceil(places),
            "round_prefer_floor": lambda: np.ceil(places - half),
            "round_prefer_ceil": lambda: np.floor(places + half),
        }[mode]()
    return np.clip(rounded, 0, axis.before - 1).astype(np.int64)


def _weights(node: OnnxNode, axis: Axis) -> Any:
    """Return the weights ``[after, before]`` of a linear or cubic resizing along an axis."""
    mode, outside = node.text("mode", "nearest"), bool(node.integer("exclude_outside", 0))
    places = _places(node, axis).astype(np.float64)
    antialias = bool(node.integer("antialias", 0))
    stretch = max(1.0, 1 / float(axis.scale)) if antialias else 1.0
    reach, kernel = (2, _cubic) if mode == "cubic" else (1, _linear)
    if mode != "cubic" and stretch == 1:
        places = np.clip(places, 0, axis.before - 1)
    weights = np.zeros((axis.after, axis.before))
    for row, place in enumerate(places):
        begin = int(np.floor(place - reach * stretch)) + 1
        pixels = np.arange(begin, int(np.floor(place + reach * stretch)) + 1)
        shares = kernel((pixels - place) / stretch, node.number("cubic_coeff_a", -0.75))
        if outside:
            shares = np.where((pixels >= 0) & (pixels < axis.before), shares, 0.0)
        np.add.at(weights[row], np.clip(pixels, 0, axis.before - 1), shares)
    return (weights / weights.sum(axis=1, keepdims=True)).astype(np.float32)


def _linear(distances: Any, _: float) -> Any:
    return np.maximum(1 - np.abs(distances), 0.0)


def _cubic(distances: Any, a: float) -> Any:
    """Return the kernel of Keys (IEEE TASSP 1981) with the parameter ``a``."""
    d = np.abs(distances)
    near = ((a + 2) * d - (a + 3)) * d * d + 1
    far = ((a * d - 5 * a) * d + 8 * a) * d - 4 * a
    return np.where(d <= 1, near, np.where(d < 2, far, 0.0))
