"""Lowering of layers with weights: convolutions, transposed convolutions, linear layers."""

from __future__ import annotations

from typing import Any

import numpy as np
from torch import fx

from hwnas.export.graph.nodes import Conv, ConvTranspose, Linear, Pad, Sides
from hwnas.export.graph.shapes import Shape
from hwnas.export.graph.views import NHWC
from hwnas.export.graph.weights import to_array
from hwnas.export.lowering.lowering import Lowering
from hwnas.nn.padding import SameConv2d, SameDepthwiseConv2d, same_sides


def conv(lowering: Lowering, node: fx.Node, part: Any) -> None:
    """Lower a convolution; a zero padding before it that has no other user is merged into it."""
    if part.padding_mode != "zeros":
        lowering.refuse(
            node, f"with padding_mode={part.padding_mode!r} is not supported, only 'zeros'"
        )
    value = lowering.operand(node)
    padding = _padding(part, lowering.shape(value))
    before = lowering.nodes.get(value)
    if isinstance(before, Pad) and _only_zeros(before) and lowering.has_one_user(value):
        (top, bottom), (left, right) = before.sides[2:]
        (up, down), (west, east) = padding
        padding = ((top + up, bottom + down), (left + west, right + east))
        lowering.drop(value, node)
        value = before.inputs[0]
    lowering.emit(
        node,
        Conv,
        (value,),
        weight=to_array(part.weight),
        bias=_bias(part, part.out_channels),
        stride=part.stride,
        padding=padding,
        dilation=part.dilation,
        groups=part.groups,
    )


def conv_transpose(lowering: Lowering, node: fx.Node, part: Any) -> None:
    if len(node.args) > 1 or node.kwargs:
        lowering.refuse(node, "with an output_size is not supported")
    lowering.emit(
        node,
        ConvTranspose,
        (lowering.operand(node),),
        weight=to_array(part.weight),
        bias=_bias(part, part.out_channels),
        stride=part.stride,
        begin=part.padding,
        dilation=part.dilation,
        groups=part.groups,
    )


def linear(lowering: Lowering, node: fx.Node, part: Any) -> None:
    """Lower a linear layer; on the last axis of an NHWC tensor it is a 1x1 convolution."""
    bias, weight = _bias(part, part.out_features), to_array(part.weight)
    view = lowering.views.get(lowering.argument(node))
    if view == NHWC:
        lowering.emit(
            node,
            Conv,
            (lowering.value(node, lowering.argument(node), view),),
            view,
            weight=weight[:, :, None, None],
            bias=bias,
            stride=(1, 1),
            padding=((0, 0), (0, 0)),
            dilation=(1, 1),
        )
        return
    if len(lowering.shapes[node]) != 2:
        lowering.refuse(node, f"to shape {lowering.shapes[node]} is not supported; flatten first")
    lowering.emit(node, Linear, (lowering.operand(node),), weight=weight, bias=bias)


def _bias(part: Any, count: int) -> Any:
    return np.zeros(count, np.float32) if part.bias is None else to_array(part.bias)


def _padding(part: Any, shape: Shape) -> Sides:
    """Return the padding of a module; PyTorch's 'same' adds an odd pixel at the end."""
    if isinstance(part, SameConv2d | SameDepthwiseConv2d):
        return same_sides(shape, part.kernel_size[0], part.stride[0])
    if not isinstance(part.padding, str):
        vertical, horizontal = part.padding
        return (vertical, vertical), (horizontal, horizontal)
    if part.padding == "valid":
        return (0, 0), (0, 0)
    vertical, horizontal = (
        d * (k - 1) for d, k in zip(part.dilation, part.kernel_size, strict=True)
    )
    return (vertical // 2, vertical - vertical // 2), (horizontal // 2, -(-horizontal // 2))


def _only_zeros(pad: Pad) -> bool:
    """Return whether ``pad`` adds zeros to height and width alone."""
    return pad.value == 0.0 and len(pad.sides) == 4 and pad.sides[:2] == ((0, 0), (0, 0))
