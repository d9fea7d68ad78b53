"""Norms."""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from hwnas.export.onnx_reader.node import OnnxNode, to_dtype_of
from hwnas.export.onnx_reader.registry import reads

SMALLEST = 1e-30
"""Lower bound of a norm that is divided by."""


@reads("BatchNormalization")
def batch_norm(
    node: OnnxNode, x: Tensor, scale: Tensor, bias: Tensor, mean: Tensor, variance: Tensor
) -> Any:
    if node.integer("training_mode", 0) or not node.integer("spatial", 1):
        node.refuse("is in training mode or not spatial; export the network for inference")
    scale, bias, mean, variance = (to_dtype_of(v, x) for v in (scale, bias, mean, variance))
    return F.batch_norm(x, mean, variance, scale, bias, False, 0.0, node.number("epsilon", 1e-5))


@reads("InstanceNormalization")
def instance_norm(node: OnnxNode, x: Tensor, scale: Tensor, bias: Tensor) -> Tensor:
    eps = node.number("epsilon", 1e-5)
    return F.instance_norm(x, None, None, scale, bias, True, 0.0, eps)


@reads("LayerNormalization")
def layer_norm(node: OnnxNode, x: Tensor, scale: Tensor, bias: Tensor | None = None) -> Any:
    """Return the norm, and behind it the mean and the inverse deviation if the node has them."""
    shape, eps = x.shape[node.integer("axis", -1) :], node.number("epsilon", 1e-5)
    scale = node.constant(scale, "a scale").expand(shape)
    bias = None if bias is None else node.constant(bias, "a bias").expand(shape)
    result = F.layer_norm(x, shape, scale, bias, eps)
    axes = list(range(x.dim() - len(shape), x.dim()))
    if node.outputs < 2:
        return result
    mean = x.mean(axes, keepdim=True)
    return result, mean, torch.rsqrt((x - mean).square().mean(axes, keepdim=True) + eps)


@reads("RMSNormalization", "com.microsoft.SimplifiedLayerNormalization")
def rms_norm(node: OnnxNode, x: Tensor, scale: Tensor) -> Tensor:
    shape = x.shape[node.integer("axis", -1) :]
    return F.rms_norm(x, shape, scale.expand(shape), node.number("epsilon", 1e-5))


@reads("GroupNormalization")
def group_norm(node: OnnxNode, x: Tensor, scale: Tensor, bias: Tensor) -> Tensor:
    """Compute a group norm; before opset 21 scale and bias were those of a group."""
    groups, eps = node.integer("num_groups"), node.number("epsilon", 1e-5)
    if node.version < 21 and scale.numel() == groups:
        scale, bias = (v.repeat_interleave(x.shape[1] // groups) for v in (scale, bias))
    return F.group_norm(x, groups, scale, bias, eps)


@reads("LpNormalization")
def lp_norm(node: OnnxNode, x: Tensor) -> Tensor:
    axis, power = node.integer("axis", -1), node.integer("p", 2)
    return x / torch.linalg.vector_norm(x, power, axis, keepdim=True).clamp_min(SMALLEST)


@reads("LRN")
def local_response_norm(node: OnnxNode, x: Tensor) -> Tensor:
    """Divide by a power of the mean square of neighbouring channels; an even size ends later."""
    size, alpha = node.integer("size"), node.number("alpha", 1e-4)
    before = (size - 1) // 2
    squares = F.pad(x.square().unsqueeze(1), (0, 0, 0, 0, before, size - 1 - before))
    means = F.avg_pool3d(squares, (size, 1, 1), stride=1).squeeze(1)
    return x / (node.number("bias", 1.0) + alpha * means) ** node.number("beta", 0.75)


@reads("MeanVarianceNormalization")
def mean_variance_norm(node: OnnxNode, x: Tensor) -> Tensor:
    axes = node.integers("axes", [0, 2, 3])
    centred = x - x.mean(axes, keepdim=True)
    return centred / (centred.square().mean(axes, keepdim=True).sqrt() + 1e-9)
