"""Folding of ``y * scale + shift``, for each channel, into the layers that compute ``y``."""

from __future__ import annotations

from typing import Any

import msgspec
import numpy as np
from torch import fx

from hwnas.export.graph.nodes import Concat, Conv, ConvTranspose, Linear
from hwnas.export.graph.views import View
from hwnas.export.graph.weights import flush_denormals, scale_weights
from hwnas.export.lowering.lowering import Lowering

Foldable = Conv | ConvTranspose | Linear


def fold(lowering: Lowering, value: str, scale: Any, shift: Any) -> bool:
    """Apply ``scale`` and ``shift``, ``[C]``, in the weights of the layers that compute ``value``.

    Return whether that was possible: the layers must have no other users and no activation.
    """
    layers = _producers(lowering, value)
    if not layers:
        return False
    ends = np.cumsum([len(layer.bias) for layer in layers])[:-1]
    parts = zip(layers, np.split(scale, ends), np.split(shift, ends), strict=True)
    for layer, layer_scale, layer_shift in parts:
        lowering.nodes[layer.name] = _scaled(layer, layer_scale, layer_shift)
    return True


def emit_depthwise(
    lowering: Lowering,
    node: fx.Node,
    value: str,
    scale: Any,
    shift: Any,
    view: View | None = None,
) -> None:
    """Add a depthwise 1x1 convolution for a scale and shift that cannot be folded."""
    lowering.emit(
        node,
        Conv,
        (value,),
        view,
        weight=flush_denormals(scale[:, None, None, None]),
        bias=flush_denormals(shift),
        stride=(1, 1),
        padding=((0, 0), (0, 0)),
        dilation=(1, 1),
        groups=len(scale),
    )


def _producers(lowering: Lowering, value: str) -> list[Foldable]:
    """Return the layer that computes ``value``, or the layers that are concatenated to it.

    The list is empty if another node reads any of them, or if any of them cannot be scaled.
    """
    source = lowering.nodes.get(value)
    concatenated = isinstance(source, Concat) and source.axis == 1
    names = source.inputs if source is not None and concatenated else (value,)
    layers = [
        layer
        for name in names
        if isinstance(layer := lowering.nodes.get(name), Foldable)
        and getattr(layer, "fused", None) is None
    ]
    unshared = all(lowering.has_one_user(name) for name in {value, *names})
    return layers if len(layers) == len(names) == len(set(names)) and unshared else []


def _scaled(layer: Foldable, scale: Any, shift: Any) -> Foldable:
    bias = flush_denormals(layer.bias * scale + shift)
    rows = scale.reshape(-1, *(1,) * (layer.weight.ndim - 1))
    if isinstance(layer, ConvTranspose):  # the output channels are the second axis, per group
        groups, (inputs, channels, *_) = layer.groups, layer.weight.shape
        rows = np.repeat(scale.reshape(groups, channels), inputs // groups, axis=0)[..., None, None]
    return msgspec.structs.replace(layer, weight=scale_weights(layer.weight, rows), bias=bias)
