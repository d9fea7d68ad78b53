"""Folding of ``y * scale + shift``, for each channel, into the layers that compute ``y``."""

from __future__ import annotations

from typing import Any

import msgspec
import numpy as np

from hwnas.export.graph.nodes import Concat, Conv, ConvTranspose, Linear, Node, Reshape, Transpose
from hwnas.export.graph.recording import Call
from hwnas.export.graph.weights import flush_denormals, scale_weights
from hwnas.export.lowering.lowering import Lowering

Foldable = Conv | ConvTranspose | Linear


def fold(lowering: Lowering, name: str, axis: int, scale: Any, shift: Any) -> bool:
    """Apply ``scale`` and ``shift``, ``[C]`` along ``axis``, in the layers that compute ``name``.

    Return whether that was possible: the layers must have no other readers and no activation.
    """
    layers = _producers(lowering, name, axis)
    if not layers:
        return False
    ends = np.cumsum([len(layer.bias) for layer in layers])[:-1]
    parts = zip(layers, np.split(scale, ends), np.split(shift, ends), strict=True)
    for layer, layer_scale, layer_shift in parts:
        lowering.nodes[layer.name] = _scaled(layer, layer_scale, layer_shift)
    return True


def emit_depthwise(lowering: Lowering, call: Call, name: str, scale: Any, shift: Any) -> None:
    """Add a depthwise 1x1 convolution for a scale and shift that cannot be folded."""
    lowering.emit(
        call,
        Conv,
        (name,),
        weight=flush_denormals(scale[:, None, None, None]),
        bias=flush_denormals(shift),
        stride=(1, 1),
        padding=((0, 0), (0, 0)),
        dilation=(1, 1),
        groups=len(scale),
    )


def _producers(lowering: Lowering, name: str, axis: int) -> list[Foldable]:
    """Return the layer that computes ``name``, or the layers that are concatenated to it.

    The list is empty if another node reads any of them, or if any of them cannot be scaled.
    """
    if not lowering.has_one_reader(name):
        return []
    source = lowering.nodes.get(name)
    if isinstance(source, Concat) and source.axis == axis:
        parts = [_layer(lowering, part, axis) for part in source.inputs]
    else:
        parts = [_layer(lowering, name, axis)]
    layers = [layer for layer in parts if layer is not None]
    unique = len({layer.name for layer in layers}) == len(parts)
    return layers if unique else []


def _layer(lowering: Lowering, name: str, axis: int) -> Foldable | None:
    """Return the layer whose output channels are ``axis`` of ``name``, behind moves of data."""
    node = lowering.nodes.get(name)
    if node is None or not lowering.has_one_reader(name):
        return None
    if isinstance(node, Transpose):
        return _layer(lowering, node.inputs[0], node.order[axis])
    if isinstance(node, Reshape):
        before = _axis_before(lowering.shape(node.inputs[0]), node.shape, axis)
        return None if before is None else _layer(lowering, node.inputs[0], before)
    if not isinstance(node, Foldable) or getattr(node, "fused", None) is not None:
        return None
    return node if axis == _channel_axis(node) else None


def _channel_axis(node: Node) -> int:
    return len(node.shape) - 1 if isinstance(node, Linear) else 1


def _axis_before(before: tuple[int, ...], after: tuple[int, ...], axis: int) -> int | None:
    """Return the axis that a reshape leaves whole as ``axis``."""
    outer = int(np.prod(after[:axis]))
    for candidate, size in enumerate(before):
        if size == after[axis] and int(np.prod(before[:candidate])) == outer:
            return candidate
    return None


def _scaled(layer: Foldable, scale: Any, shift: Any) -> Foldable:
    bias = flush_denormals(layer.bias * scale + shift)
    rows = scale.reshape(-1, *(1,) * (layer.weight.ndim - 1))
    if isinstance(layer, ConvTranspose):  # the output channels are the second axis, per group
        groups, (inputs, channels, *_) = layer.groups, layer.weight.shape
        rows = np.repeat(scale.reshape(groups, channels), inputs // groups, axis=0)[..., None, None]
    return msgspec.structs.replace(layer, weight=scale_weights(layer.weight, rows), bias=bias)
