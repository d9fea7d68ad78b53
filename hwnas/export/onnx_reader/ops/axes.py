"""Operators on axes: reshapes, permutations, expansions, casts, and rearranged pixels."""

from __future__ import annotations

import math
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from hwnas.export.onnx_reader.element_types import torch_dtype
from hwnas.export.onnx_reader.node import OnnxNode, is_traced
from hwnas.export.onnx_reader.registry import reads


@reads("Identity")
def identity(node: OnnxNode, x: Any) -> Any:
    return x


@reads("Dropout")
def dropout(node: OnnxNode, x: Tensor, ratio: Any = None, training: Any = None) -> Any:
    """Return the input, as there is no dropout in inference, and a mask that is True everywhere."""
    if training is not None and bool(node.constant(training, "a mode").any()):
        node.refuse("is in training mode; export the network for inference")
    return x if node.outputs < 2 else (x, torch.ones(x.shape, dtype=torch.bool))


@reads("Cast", "CastLike")
def cast(node: OnnxNode, x: Tensor, like: Tensor | None = None) -> Tensor:
    """Cast; floats that depend on the input are float32, whatever their width in the file."""
    dtype = torch_dtype(node, node.integer("to")) if like is None else like.dtype
    if is_traced(x) and x.is_floating_point() and dtype.is_floating_point:
        return x
    if x.is_floating_point() and dtype == torch.bool:
        return x != 0
    return x.to(dtype)


@reads("Reshape")
def reshape(node: OnnxNode, x: Tensor, shape: Tensor) -> Tensor:
    """Reshape; a size of 0 is that of the input's axis, unless ``allowzero`` says otherwise."""
    sizes = node.numbers(shape, "a shape")
    if not node.integer("allowzero", 0):
        sizes = [size or x.shape[axis] for axis, size in enumerate(sizes)]
    return x.reshape(sizes)


@reads("Flatten")
def flatten(node: OnnxNode, x: Tensor) -> Tensor:
    axis = node.integer("axis", 1)
    axis = axis + x.dim() if axis < 0 else axis
    return x.reshape(math.prod(x.shape[:axis]), math.prod(x.shape[axis:]))


@reads("Squeeze")
def squeeze(node: OnnxNode, x: Tensor, given: Tensor | None = None) -> Tensor:
    ones = [axis for axis, size in enumerate(x.shape) if size == 1]
    axes = node.axes(given, x.dim(), ones)
    if any(x.shape[axis] != 1 for axis in axes):
        node.refuse(f"squeezes axes {axes} of {list(x.shape)}, which are not all 1")
    return x.reshape([size for axis, size in enumerate(x.shape) if axis not in axes])


@reads("Unsqueeze")
def unsqueeze(node: OnnxNode, x: Tensor, given: Tensor | None = None) -> Tensor:
    stated = node.attributes.get("axes") if given is None else node.numbers(given, "axes")
    sizes, rank = list(x.shape), x.dim() + len(stated or [])
    for axis in sorted(axis % rank for axis in stated or []):
        sizes.insert(axis, 1)
    return x.reshape(sizes)


@reads("Transpose")
def transpose(node: OnnxNode, x: Tensor) -> Tensor:
    return x.permute(node.integers("perm", list(range(x.dim()))[::-1]))


@reads("Expand")
def expand(node: OnnxNode, x: Tensor, shape: Tensor) -> Tensor:
    """Repeat axes of size 1; an axis of the shape may be 1 as well, and stays as it is then."""
    return x.expand(torch.broadcast_shapes(x.shape, node.numbers(shape, "a shape")))


@reads("Tile")
def tile(node: OnnxNode, x: Tensor, repeats: Tensor) -> Tensor:
    return x.repeat(node.numbers(repeats, "repeats"))


@reads("DepthToSpace")
def depth_to_space(node: OnnxNode, x: Tensor) -> Tensor:
    """Move channels into pixels; in mode DCR the place in the block is the slower axis."""
    factor = node.integer("blocksize")
    if node.text("mode", "DCR") == "CRD":
        return F.pixel_shuffle(x, factor)
    batch, channels, height, width = x.shape
    rows = x.reshape(batch, factor, factor, channels // factor**2, height, width)
    pixels = rows.permute(0, 3, 4, 1, 5, 2)
    return pixels.reshape(batch, channels // factor**2, height * factor, width * factor)


@reads("SpaceToDepth")
def space_to_depth(node: OnnxNode, x: Tensor) -> Tensor:
    factor = node.integer("blocksize")
    batch, channels, height, width = x.shape
    rows = x.reshape(batch, channels, height // factor, factor, width // factor, factor)
    depth = rows.permute(0, 3, 5, 1, 2, 4)
    return depth.reshape(batch, channels * factor**2, height // factor, width // factor)
