"""Constants, and what is computed from shapes and constants alone."""

from __future__ import annotations

import torch
from torch import Tensor

from hwnas.export.onnx_reader.node import OnnxNode, is_traced
from hwnas.export.onnx_reader.registry import reads

SCALARS = ("value_float", "value_int", "value_floats", "value_ints")
QUANTISED = (
    *("QuantizeLinear", "DynamicQuantizeLinear", "ConvInteger", "MatMulInteger"),
    *("QLinearConv", "QLinearMatMul"),
)
"""Operators of int8 networks."""
NOT_INT8 = (
    "is of a quantised network; export the float32 network that it was made from, and give "
    "--precision int8 with --data for an int8 file"
)


@reads("Constant")
def constant(node: OnnxNode) -> Tensor:
    if "value" in node.attributes:
        return node.attributes["value"]
    for name in SCALARS:
        if name in node.attributes:
            dtype = torch.float32 if "float" in name else torch.int64
            return torch.tensor(node.attributes[name], dtype=dtype)
    node.refuse(f"states {', '.join(node.attributes) or 'nothing'}, which is not supported")


@reads("ConstantOfShape")
def constant_of_shape(node: OnnxNode, shape: Tensor) -> Tensor:
    value = node.attributes.get("value", torch.zeros(1))
    return value.reshape(-1)[0].expand(node.numbers(shape, "a shape")).clone()


@reads("Shape")
def shape(node: OnnxNode, x: Tensor) -> Tensor:
    sizes = list(x.shape)[node.integer("start", 0) : node.attributes.get("end")]
    return torch.tensor(sizes, dtype=torch.int64)


@reads("Size")
def size(node: OnnxNode, x: Tensor) -> Tensor:
    return torch.tensor(x.numel(), dtype=torch.int64)


@reads("Range")
def range_(node: OnnxNode, *ends: Tensor) -> Tensor:
    start, limit, step = (node.constant(end, "an end").item() for end in ends)
    return torch.arange(start, limit, step, dtype=ends[0].dtype)


@reads("NonZero")
def nonzero(node: OnnxNode, x: Tensor) -> Tensor:
    return node.constant(x, "values").nonzero().t().contiguous()


@reads("OneHot")
def one_hot(node: OnnxNode, indices: Tensor, depth: Tensor, values: Tensor) -> Tensor:
    """Return a new axis with the second of two values at each index, else the first."""
    [count] = node.numbers(depth, "a depth")
    axis = node.integer("axis", -1) % (indices.dim() + 1)
    off, on = node.constant(values, "values")
    places = torch.where(indices < 0, indices + count, indices).unsqueeze(axis)
    rows = torch.arange(count).view(-1, *(1,) * (indices.dim() - axis))
    return torch.where(places == rows, on, off)


@reads("EyeLike")
def eye_like(node: OnnxNode, x: Tensor) -> Tensor:
    rows, columns = torch.arange(x.shape[0])[:, None], torch.arange(x.shape[1])
    return (columns - rows == node.integer("k", 0)).to(torch.float32)


@reads("DequantizeLinear")
def dequantize(node: OnnxNode, x: Tensor, scale: Tensor, zero: Tensor | None = None) -> Tensor:
    """Compute the floats of quantised weights; values that depend on the input are refused."""
    if is_traced(x) or node.integer("block_size", 0):
        node.refuse(NOT_INT8)
    if scale.dim() == 1 and scale.numel() > 1:
        axis = node.integer("axis", 1) % x.dim()
        per_channel = [-1 if place == axis else 1 for place in range(x.dim())]
        scale = scale.reshape(per_channel)
        zero = None if zero is None else zero.reshape(per_channel)
    whole = x.to(torch.float32) if zero is None else x.to(torch.float32) - zero.to(torch.float32)
    return whole * scale
