"""The compiler's operations: how each looks in PyTorch, and how it becomes a node."""

from __future__ import annotations

import operator
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import msgspec
import numpy as np
import torch
import torch.nn.functional as F
from torch import fx, nn

from hwnas.export.map_ops import concat, getitem, window_pool, zeros
from hwnas.export.nodes import Activation, Arithmetic, Conv, Flatten, Linear, Pool
from hwnas.export.norms import norm
from hwnas.export.weights import array

if TYPE_CHECKING:
    from hwnas.export.lowering import Lowering

OPS: dict[object, str] = {
    nn.Conv2d: "conv2d",
    nn.BatchNorm2d: "batchnorm",
    nn.SyncBatchNorm: "batchnorm",
    nn.Linear: "linear",
    **dict.fromkeys((nn.ReLU, F.relu, F.relu_, torch.relu, torch.relu_, "relu", "relu_"), "relu"),
    **dict.fromkeys((nn.ReLU6, F.relu6), "relu6"),
    **dict.fromkeys((nn.Hardswish, F.hardswish), "hardswish"),
    **dict.fromkeys((nn.Hardsigmoid, F.hardsigmoid), "hardsigmoid"),
    **dict.fromkeys((nn.Sigmoid, F.sigmoid, torch.sigmoid, "sigmoid", "sigmoid_"), "sigmoid"),
    **dict.fromkeys((operator.add, operator.iadd, torch.add, "add", "add_"), "add"),
    **dict.fromkeys((operator.mul, operator.imul, torch.mul, "mul", "mul_"), "mul"),
    **dict.fromkeys((nn.AdaptiveAvgPool2d, F.adaptive_avg_pool2d), "adaptive_avg_pool2d"),
    **dict.fromkeys((torch.mean, "mean"), "mean"),
    **dict.fromkeys((nn.Flatten, torch.flatten, "flatten", "view", "reshape"), "flatten"),
    **dict.fromkeys((nn.Dropout, nn.Dropout2d, F.dropout, F.dropout2d), "dropout"),
    **dict.fromkeys((nn.Identity, "contiguous"), "identity"),
    nn.MaxPool2d: "max_pool2d",
    nn.AvgPool2d: "avg_pool2d",
    operator.getitem: "getitem",
    **dict.fromkeys((torch.cat, torch.concat), "cat"),
    "new_zeros": "zeros",
}
"""Module types, functions and method names that can be compiled, and what each computes."""

ACTIVATIONS = {"relu", "relu6", "hardswish", "hardsigmoid", "sigmoid"}


def _conv(lowering: Lowering, node: fx.Node, part: Any) -> None:
    depthwise = part.groups > 1 and part.groups == part.in_channels == part.out_channels
    if part.groups > 1 and not depthwise:
        lowering.refuse(
            node,
            f"with {part.groups} groups from {part.in_channels} to {part.out_channels} channels is "
            "not supported, only 1 group, or depthwise with as many groups as channels in and out",
        )
    if part.padding_mode != "zeros":
        lowering.refuse(node, f"with padding_mode={part.padding_mode!r} is not supported: 'zeros'")
    bias = np.zeros(part.out_channels, np.float32) if part.bias is None else array(part.bias)
    lowering.emit(
        node,
        Conv,
        (lowering.operand(node),),
        weight=array(part.weight),
        bias=bias,
        stride=part.stride,
        padding=_padding(lowering, node, part),
        dilation=part.dilation,
        depthwise=depthwise,
    )


def _padding(lowering: Lowering, node: fx.Node, part: Any) -> tuple[int, int]:
    if not isinstance(part.padding, str):
        return part.padding
    reach = [d * (k - 1) for d, k in zip(part.dilation, part.kernel_size, strict=True)]
    if part.padding == "same" and any(size % 2 for size in reach):
        lowering.refuse(node, "with padding='same' and an even kernel pads unevenly; not supported")
    return (reach[0] // 2, reach[1] // 2) if part.padding == "same" else (0, 0)


def _linear(lowering: Lowering, node: fx.Node, part: Any) -> None:
    if len(lowering.shapes[node]) != 2:
        lowering.refuse(node, f"to shape {lowering.shapes[node]} is not supported: flatten first")
    bias = np.zeros(part.out_features, np.float32) if part.bias is None else array(part.bias)
    inputs = (lowering.operand(node),)
    lowering.emit(node, Linear, inputs, weight=array(part.weight), bias=bias)


def _fusible(lowering: Lowering, node: fx.Node, part: Any) -> None:
    """Relu and relu6 go into the node before, if nothing else uses its output.

    Else the same activation of the same value is computed once.
    """
    value, op = lowering.operand(node), OPS[node.target if part is None else module_type(part)]
    before = lowering.nodes.get(value)
    alone = len(lowering.users[value]) == 1
    if isinstance(before, Conv | Linear | Arithmetic) and before.fused is None and alone:
        lowering.nodes[value] = msgspec.structs.replace(before, fused=op)
        lowering.become(node, value)
    elif (op, value) in lowering.activated:
        lowering.become(node, lowering.activated[op, value])
    else:
        lowering.emit(node, Activation, (value,), op=op)
        lowering.activated[op, value] = lowering.values[node]


def _activation(lowering: Lowering, node: fx.Node, part: Any) -> None:
    op = OPS[node.target if part is None else module_type(part)]
    lowering.emit(node, Activation, (lowering.operand(node),), op=op)


def _arithmetic(lowering: Lowering, node: fx.Node, part: Any) -> None:
    if node.kwargs:
        lowering.refuse(node, f"with {', '.join(node.kwargs)} given by name is not supported")
    inputs = lowering.operand(node), lowering.operand(node, 1)
    ranks = [len(lowering.shape(value)) for value in inputs]
    if ranks[0] != ranks[1]:
        lowering.refuse(node, f"of tensors of rank {ranks[0]} and {ranks[1]} is not supported")
    lowering.emit(node, Arithmetic, inputs, op=OPS[node.target])


def _adaptive_pool(lowering: Lowering, node: fx.Node, part: Any) -> None:
    if lowering.shapes[node][2:] != (1, 1):
        size = lowering.shapes[node][2:]
        lowering.refuse(node, f"to {size} is not supported, only global pooling to (1, 1)")
    lowering.emit(node, Pool, (lowering.operand(node),))


def _mean(lowering: Lowering, node: fx.Node, part: Any) -> None:
    dims = node.kwargs.get("dim", node.args[1] if len(node.args) > 1 else None)
    value = lowering.operand(node)
    found = {dim % 4 for dim in dims} if isinstance(dims, list | tuple) else set()  # type: ignore
    if len(lowering.shape(value)) != 4 or found != {2, 3}:
        lowering.refuse(node, f"over dim {dims} is not supported, only over (2, 3) of [N, C, H, W]")
    lowering.emit(node, Pool, (value,))


def _flatten(lowering: Lowering, node: fx.Node, part: Any) -> None:
    """Only where height and width are 1: their order in memory is then the same everywhere."""
    value = lowering.operand(node)
    before, after = lowering.shape(value), lowering.shapes[node]
    pool = lowering.nodes.get(value)
    if after == before:
        lowering.become(node, value)
    elif before != (*after, 1, 1):
        lowering.refuse(
            node, f"from {before} to {after} is not supported, only [1, C, 1, 1] (pooled) to [1, C]"
        )
    elif isinstance(pool, Pool) and len(lowering.users[value]) == 1:
        lowering.nodes[value] = msgspec.structs.replace(pool, shape=after)
        lowering.become(node, value)
    else:
        lowering.emit(node, Flatten, (value,))


def _dropout(lowering: Lowering, node: fx.Node, part: Any) -> None:
    given = node.args[2] if len(node.args) > 2 else True
    if part is None and node.kwargs.get("training", given):
        lowering.refuse(node, "is active in evaluation; pass training=self.training")
    lowering.become(node, lowering.operand(node))


def _identity(lowering: Lowering, node: fx.Node, part: Any) -> None:
    lowering.become(node, lowering.operand(node))


LOWER: dict[str, Callable[[Lowering, fx.Node, Any], None]] = {
    "conv2d": _conv,
    "batchnorm": norm,
    "linear": _linear,
    "relu": _fusible,
    "relu6": _fusible,
    "hardswish": _activation,
    "hardsigmoid": _activation,
    "sigmoid": _activation,
    "add": _arithmetic,
    "mul": _arithmetic,
    "adaptive_avg_pool2d": _adaptive_pool,
    "mean": _mean,
    "flatten": _flatten,
    "dropout": _dropout,
    "identity": _identity,
    "max_pool2d": window_pool,
    "avg_pool2d": window_pool,
    "getitem": getitem,
    "cat": concat,
    "zeros": zeros,
}
"""Each takes the lowering, the traced node and, for a module, the module."""


def known_ops() -> list[str]:
    """Return the names of all operations that can be compiled."""
    return sorted(LOWER)


def module_type(part: nn.Module) -> type[nn.Module]:
    """Return the type of `OPS` that ``part`` computes the same as, else its own."""
    own = type(part)
    for base in own.__mro__:
        if base in OPS and all(
            getattr(own, name, None) is getattr(base, name, None)
            for name in ("forward", "_conv_forward")
        ):
            return base
    return own


def op_name(node: fx.Node, part: nn.Module | None) -> str:
    """Name what a traced node calls, as its user knows it, e.g. ``torch.nn.GELU``."""
    if part is not None:
        kind = type(part)
        return f"torch.nn.{kind.__name__}" if hasattr(nn, kind.__name__) else kind.__qualname__
    if node.op == "call_method":
        return f"Tensor.{node.target}"
    if node.op == "get_attr":
        return f"the parameter {node.target!r} used directly"
    name = getattr(node.target, "__name__", str(node.target))
    return f"{getattr(node.target, '__module__', None) or 'torch'}.{name}".removeprefix("_")


def in_place(node: fx.Node, part: nn.Module | None) -> bool:
    """Whether ``node`` overwrites its first operand."""
    if part is not None:
        return bool(getattr(part, "inplace", False)) and OPS[module_type(part)] != "dropout"
    name = node.target if isinstance(node.target, str) else getattr(node.target, "__name__", "")
    flag = OPS[node.target] in ACTIVATIONS and any(given is True for given in node.args[1:])
    given = flag or node.kwargs.get("inplace", False)
    return bool(given) or name.endswith("_") or node.target in (operator.iadd, operator.imul)
