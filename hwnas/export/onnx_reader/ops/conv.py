"""Convolutions and transposed convolutions, of one to three dimensions."""

from __future__ import annotations

from typing import Any

import torch.nn.functional as F
from torch import Tensor

from hwnas.export.onnx_reader.node import OnnxNode, to_dtype_of
from hwnas.export.onnx_reader.registry import reads
from hwnas.export.onnx_reader.windows import Window, padded, window

CONVS: dict[int, Any] = {1: F.conv1d, 2: F.conv2d, 3: F.conv3d}
TRANSPOSED: dict[int, Any] = {
    1: F.conv_transpose1d,
    2: F.conv_transpose2d,
    3: F.conv_transpose3d,
}


@reads("Conv")
def conv(node: OnnxNode, x: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
    """Convolve; a padding that differs between both ends is an operation of its own."""
    spatial = _spatial(node, weight)
    weight = to_dtype_of(weight, x)
    place = window(node, x.shape[2:], list(weight.shape[2:]))
    symmetric = all(before == after for before, after in place.sides)
    padding: Any = tuple(before for before, _ in place.sides) if symmetric else 0
    return CONVS[spatial](
        x if symmetric else padded(x, place.sides, 0.0),
        weight,
        None if bias is None else to_dtype_of(bias, x),
        tuple(place.strides),
        padding,
        tuple(place.dilations),
        node.integer("group", 1),
    )


@reads("ConvTranspose")
def conv_transpose(node: OnnxNode, x: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
    """Convolve transposed, and crop what PyTorch's padding cannot express."""
    spatial = _spatial(node, weight)
    place, more = _crop(node, x, weight)
    pairs = zip(place.sides, more, place.strides, place.dilations, strict=True)
    paddings = [before - after + extra for (before, after), extra, _, _ in pairs]
    limits = [max(pair) for pair in zip(place.strides, place.dilations, strict=True)]
    direct = all(0 <= extra < limit for extra, limit in zip(paddings, limits, strict=True))
    direct = direct and all(before >= 0 for before, _ in place.sides)
    result = TRANSPOSED[spatial](
        x,
        to_dtype_of(weight, x),
        None if bias is None else to_dtype_of(bias, x),
        tuple(place.strides),
        tuple(before for before, _ in place.sides) if direct else 0,
        tuple(paddings)
        if direct
        else tuple(min(n, m - 1) for n, m in zip(more, limits, strict=True)),
        node.integer("group", 1),
        tuple(place.dilations),
    )
    if direct:
        return result
    return padded(result, [(-before, -after) for before, after in place.sides], 0.0)


def _crop(node: OnnxNode, x: Tensor, weight: Tensor) -> tuple[Window, list[int]]:
    """Return the window with the pixels to crop at both ends, and the output padding."""
    kernel = list(weight.shape[2:])
    place = window(node, x.shape[2:], kernel)
    more = node.integers("output_padding", [0] * len(kernel))
    mode, sizes = node.text("auto_pad", "NOTSET"), node.attributes.get("output_shape")
    if sizes is None and not mode.startswith("SAME"):
        return place, more
    sizes = sizes or [n * stride for n, stride in zip(x.shape[2:], place.strides, strict=True)]
    sides: list[tuple[int, int]] = []
    for axis, size in enumerate(sizes[-len(kernel) :]):
        reach = place.dilations[axis] * (kernel[axis] - 1) + 1
        whole = place.strides[axis] * (x.shape[2 + axis] - 1) + more[axis] + reach
        total = max(whole - size, 0)
        half = total // 2 if mode == "SAME_UPPER" else total - total // 2
        sides.append((half, total - half))
        more[axis] += max(size - whole, 0)
    return place._replace(sides=sides), more


def _spatial(node: OnnxNode, weight: Tensor) -> int:
    spatial = weight.dim() - 2
    if spatial not in CONVS:
        node.refuse(f"has {spatial} dimensions; only 1 to 3 are supported")
    return spatial
