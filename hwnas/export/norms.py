"""Batch norm: folded into the convolutions that give its input, else a convolution of its own."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import msgspec
import numpy as np
from torch import fx

from hwnas.export.nodes import Concat, Conv
from hwnas.export.weights import array, normal

if TYPE_CHECKING:
    from hwnas.export.lowering import Lowering


def norm(lowering: Lowering, node: fx.Node, part: Any) -> None:
    """Compute ``y * scale + shift`` with the statistics of the training.

    ``scale = gain / sqrt(var + eps)``, ``shift = bias - mean * scale``, for each channel.
    """
    if part.running_var is None:
        lowering.refuse(node, "without running statistics is not supported")
    value = lowering.operand(node)
    if len(lowering.shape(value)) != 4:
        lowering.refuse(node, f"of shape {lowering.shape(value)} is not supported: [N, C, H, W]")
    gain = 1.0 if part.weight is None else array(part.weight, np.float64)
    bias = 0.0 if part.bias is None else array(part.bias, np.float64)
    scale = gain / np.sqrt(array(part.running_var, np.float64) + part.eps)
    shift = bias - array(part.running_mean, np.float64) * scale
    convs = _foldable(lowering, value)
    if not convs:
        _depthwise(lowering, node, value, scale, shift)
        return
    ends = np.cumsum([len(conv.bias) for conv in convs])[:-1]
    for conv, one, other in zip(convs, np.split(scale, ends), np.split(shift, ends), strict=True):
        weight = normal(conv.weight * one[:, None, None, None])
        folded = msgspec.structs.replace(conv, weight=weight, bias=normal(conv.bias * one + other))
        lowering.nodes[conv.name] = folded
    lowering.become(node, value)


def _foldable(lowering: Lowering, value: str) -> list[Conv]:
    """Return the convolutions whose outputs, one after the other, are ``value`` and nothing else's.

    That is one convolution, or those of a concatenation; none if any has other users.
    """
    made = lowering.nodes.get(value)
    names = made.inputs if isinstance(made, Concat) else (value,)
    convs = [made for name in names if isinstance(made := lowering.nodes.get(name), Conv)]
    alone = all(len(lowering.users[name]) == 1 for name in {value, *names})
    unfused = all(conv.fused is None for conv in convs)
    return convs if len(convs) == len(names) == len(set(names)) and alone and unfused else []


def _depthwise(lowering: Lowering, node: fx.Node, value: str, scale: Any, shift: Any) -> None:
    lowering.emit(
        node,
        Conv,
        (value,),
        weight=normal(scale[:, None, None, None]),
        bias=normal(shift),
        stride=(1, 1),
        padding=(0, 0),
        dilation=(1, 1),
        depthwise=True,
    )
