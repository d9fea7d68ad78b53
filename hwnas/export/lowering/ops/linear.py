"""Lowering of linear layers, matrix products and attention."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import torch

from hwnas.export.graph.nodes import Linear
from hwnas.export.graph.recording import Call, Shape, Value
from hwnas.export.graph.weights import to_array
from hwnas.export.lowering.lowering import Lowering
from hwnas.export.lowering.steps import Steps


def linear(lowering: Lowering, call: Call) -> None:
    """Lower a linear layer; one whose weight is computed is a matrix product."""
    value, weight, bias = (call.args[name] for name in ("input", "weight", "bias"))
    if isinstance(value, Value) and not isinstance(weight, Value) and not isinstance(bias, Value):
        _emit(lowering, call, lowering.values[value], weight, bias)
        return
    steps, shape = Steps(lowering, call), tuple(value.shape)
    rows = steps.reshape(lowering.name(call, value), (math.prod(shape[:-1]), shape[-1]))
    columns = steps.reshape(lowering.name(call, weight), (-1, shape[-1]))
    product = steps.matmul(rows, steps.transpose(columns, (1, 0)))
    if bias is not None:
        product = steps.arithmetic("add", product, lowering.name(call, bias))
    steps.finish(steps.reshape(product, call.result.shape))


def bilinear(lowering: Lowering, call: Call) -> None:
    """Lower ``first @ weight[o] @ second + bias[o]`` for each output."""
    steps, args = Steps(lowering, call), call.args
    weight, bias = lowering.constant(call, "weight"), lowering.constant(call, "bias")
    assert weight is not None
    outputs, width, other = weight.shape
    first, second = (lowering.name(call, args[name]) for name in ("input1", "input2"))
    rows = steps.reshape(first, (-1, width))
    product = steps.matmul(rows, to_array(weight.permute(1, 0, 2).reshape(width, -1)))
    product = steps.reshape(product, (-1, outputs, other))
    product = steps.arithmetic("mul", product, steps.reshape(second, (-1, 1, other)))
    sums = steps.reshape(steps.reduce("sum", product, (2,)), (-1, outputs))
    if bias is not None:
        sums = steps.arithmetic("add", sums, to_array(bias))
    steps.finish(steps.reshape(sums, call.result.shape))


def addmm(lowering: Lowering, call: Call) -> None:
    """Lower ``beta * self + alpha * (mat1 @ mat2)``."""
    bias, right, alpha = call.args["self"], call.args["mat2"], call.args["alpha"]
    constant = torch.is_tensor(right) and torch.is_tensor(bias) and bias.dim() == 1
    if constant and isinstance(call.args["mat1"], Value):
        weight = alpha * right.t()
        _emit(lowering, call, lowering.operand(call, "mat1"), weight, call.args["beta"] * bias)
        return
    steps = Steps(lowering, call)
    left, other = (lowering.name(call, call.args[name]) for name in ("mat1", "mat2"))
    product = steps.matmul(left, other)
    if alpha != 1:
        product = steps.arithmetic("mul", product, alpha)
    more = lowering.name(call, bias)
    if call.args["beta"] != 1:
        more = steps.arithmetic("mul", more, call.args["beta"])
    steps.finish(steps.arithmetic("add", more, product))


def matmul(lowering: Lowering, call: Call) -> None:
    """Lower ``mm``, ``bmm`` and ``matmul``; a constant matrix on the right is a linear layer."""
    left = call.args["self"]
    right = call.args["mat2"] if "mat2" in call.args else call.args["other"]
    if isinstance(left, Value) and torch.is_tensor(right) and right.dim() == 2:
        _emit(lowering, call, lowering.values[left], right.t(), None)
        return
    steps = Steps(lowering, call)
    first, second = lowering.name(call, left), lowering.name(call, right)
    if len(lowering.shape(first)) == 1:
        first = steps.reshape(first, (1, *lowering.shape(first)))
    if len(lowering.shape(second)) == 1:
        second = steps.reshape(second, (*lowering.shape(second), 1))
    product = steps.matmul(first, second)
    steps.finish(steps.reshape(product, call.result.shape))


def attention(lowering: Lowering, call: Call) -> None:
    """Lower ``softmax(query @ key.T * scale + mask) @ value`` over the last two axes."""
    args, steps = call.args, Steps(lowering, call)
    if args["dropout_p"]:
        lowering.refuse(call, "drops values in evaluation mode; pass dropout_p=0.0 there")
    query, key, value = (lowering.name(call, args[name]) for name in ("query", "key", "value"))
    rank = len(lowering.shape(query))
    if args.get("enable_gqa"):
        key, value = (_of_each_head(steps, name, lowering.shape(query)) for name in (key, value))
    scale = args.get("scale") or 1 / math.sqrt(lowering.shape(query)[-1])
    order = (*range(rank - 2), rank - 1, rank - 2)
    scores = steps.matmul(steps.arithmetic("mul", query, scale), steps.transpose(key, order))
    mask: Any = args["attn_mask"]
    if args["is_causal"]:
        mask = torch.ones(lowering.shape(scores)[-2:], dtype=torch.bool).tril()
    if isinstance(mask, torch.Tensor):
        mask = torch.where(mask, 0.0, -1e30) if mask.dtype == torch.bool else mask
    if isinstance(mask, Value) and mask.dtype == torch.bool:
        scores = steps.select("ne", lowering.values[mask], 0.0, scores, -1e30)
    elif mask is not None:
        scores = steps.arithmetic("add", scores, lowering.name(call, mask))
    shares = steps.activation("softmax", scores, axis=rank - 1)
    steps.finish(steps.matmul(shares, value))


def _of_each_head(steps: Steps, value: str, query: Shape) -> str:
    """Repeat heads ``[..., H, L, E]`` that several heads of the query share."""
    heads, count = steps.shape(value)[-3], query[-3]
    places = tuple(place * heads // count for place in range(count))
    return steps.gather(value, len(query) - 3, places)


def _emit(lowering: Lowering, call: Call, value: str, weight: Any, bias: Any) -> None:
    """Add a linear layer; a value of one axis becomes a row."""
    array = to_array(weight)
    fields = {
        "weight": array,
        "bias": np.zeros(len(array), np.float32) if bias is None else to_array(bias),
    }
    if len(lowering.shape(value)) > 1:
        lowering.emit(call, Linear, (value,), **fields)
        return
    row = Steps(lowering, call).of_rank(value, 2)
    shape = (1, *call.result.shape)
    lowering.become(call, lowering.step(call, "row", Linear, (row,), shape, **fields))
