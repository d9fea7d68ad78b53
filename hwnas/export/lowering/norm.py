"""Norms: batch norm folded where it can be, layer norm over the channels of each pixel."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch import fx

from hwnas.export.graph.nodes import LayerNorm
from hwnas.export.graph.weights import array
from hwnas.export.lowering.fold_affine import depthwise, fold
from hwnas.export.lowering.lowering import Lowering


def batch_norm(lowering: Lowering, node: fx.Node, part: Any) -> None:
    """Compute ``y * scale + shift`` with the statistics of the training.

    ``scale = gain / sqrt(var + eps)``, ``shift = bias - mean * scale``, for each channel.
    """
    if part.running_var is None:
        lowering.refuse(node, "without running statistics is not supported")
    value = lowering.operand(node)
    shape = lowering.shape(value)
    if len(shape) not in (2, 4):
        lowering.refuse(node, f"of shape {shape} is not supported: [N, C, H, W] or [N, C]")
    gain = 1.0 if part.weight is None else array(part.weight, np.float64)
    bias = 0.0 if part.bias is None else array(part.bias, np.float64)
    scale = gain / np.sqrt(array(part.running_var, np.float64) + part.eps)
    shift = bias - array(part.running_mean, np.float64) * scale
    if fold(lowering, value, scale, shift):
        lowering.become(node, value)
    elif len(shape) == 4:
        depthwise(lowering, node, value, scale, shift)
    else:
        lowering.refuse(node, "of [N, C] is not supported, only right after a linear layer")


def layer_norm(lowering: Lowering, node: fx.Node, part: Any) -> None:
    """Only over the channels, which must be the last axis: ``[1, H, W, C]`` or ``[1, C]``."""
    if part is None:
        given = lowering.arguments(node, "normalized_shape", "weight", "bias", "eps")
        over, eps = tuple(given["normalized_shape"]), given.get("eps", 1e-5)
        weight, bias = (lowering.constant(given.get(name)) for name in ("weight", "bias"))
    else:
        over, eps, weight, bias = part.normalized_shape, part.eps, part.weight, part.bias
    view = lowering.views.get(lowering.given(node))
    value = lowering.value(node, lowering.given(node), view)
    shape = lowering.shape(value)
    last = view is not None and view.kind == "channels last"
    if tuple(over) != shape[1:2] or not (last or (view is None and len(shape) == 2)):
        lowering.refuse(
            node, f"over {tuple(over)} of {lowering.shapes[node]} is not supported, only over the "
            "channels where they are the last axis",
        )  # fmt: skip
    channels = shape[1]
    lowering.emit(
        node,
        LayerNorm,
        (value,),
        view,
        gain=np.ones(channels, np.float32) if weight is None else array(torch.as_tensor(weight)),
        shift=np.zeros(channels, np.float32) if bias is None else array(torch.as_tensor(bias)),
        eps=float(eps),
    )
