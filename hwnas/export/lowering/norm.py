"""Lowering of batch norm, folded where possible, and of layer norm over the channels."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch import fx

from hwnas.export.graph.nodes import LayerNorm
from hwnas.export.graph.views import NHWC
from hwnas.export.graph.weights import to_array
from hwnas.export.lowering.fold_affine import emit_depthwise, fold
from hwnas.export.lowering.lowering import Lowering


def batch_norm(lowering: Lowering, node: fx.Node, part: Any) -> None:
    """Lower to ``y * scale + shift`` with the running statistics.

    ``scale = gain / sqrt(var + eps)``, ``shift = bias - mean * scale``, for each channel.
    """
    if part.running_var is None:
        lowering.refuse(node, "without running statistics is not supported")
    value = lowering.operand(node)
    shape = lowering.shape(value)
    if len(shape) not in (2, 4):
        lowering.refuse(node, f"of shape {shape} is not supported, only of [N, C, H, W] or [N, C]")
    gain = 1.0 if part.weight is None else to_array(part.weight, np.float64)
    bias = 0.0 if part.bias is None else to_array(part.bias, np.float64)
    scale = gain / np.sqrt(to_array(part.running_var, np.float64) + part.eps)
    shift = bias - to_array(part.running_mean, np.float64) * scale
    if fold(lowering, value, scale, shift):
        lowering.become(node, value)
    elif len(shape) == 4:
        emit_depthwise(lowering, node, value, scale, shift)
    else:
        lowering.refuse(node, "of [N, C] is only supported right after a linear layer")


def layer_norm(lowering: Lowering, node: fx.Node, part: Any) -> None:
    """Lower a layer norm over the channels as last axis, ``[1, H, W, C]`` or ``[1, C]``."""
    if part is None:
        options = lowering.options(node, "normalized_shape", "weight", "bias", "eps")
        normalized_shape, eps = tuple(options["normalized_shape"]), options.get("eps", 1e-5)
        weight, bias = (lowering.constant(options.get(name)) for name in ("weight", "bias"))
    else:
        normalized_shape, eps = tuple(part.normalized_shape), part.eps
        weight, bias = part.weight, part.bias
    view = lowering.views.get(lowering.argument(node))
    value = lowering.value(node, lowering.argument(node), view)
    shape = lowering.shape(value)
    channels_last = view == NHWC or (view is None and len(shape) == 2)
    if normalized_shape != shape[1:2] or not channels_last:
        lowering.refuse(
            node,
            f"over {normalized_shape} of {lowering.shapes[node]} is not supported, only over the "
            "channels where they are the last axis",
        )
    channels = shape[1]
    lowering.emit(
        node,
        LayerNorm,
        (value,),
        view,
        gain=np.ones(channels, np.float32) if weight is None else to_array(torch.as_tensor(weight)),
        shift=np.zeros(channels, np.float32) if bias is None else to_array(torch.as_tensor(bias)),
        eps=float(eps),
    )
