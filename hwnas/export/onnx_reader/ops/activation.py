"""Functions of each element, and softmax."""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor

from hwnas.export.onnx_reader.node import OnnxNode, is_traced, scalar, to_dtype_of
from hwnas.export.onnx_reader.registry import reads

PLAIN: dict[str, Callable[[Tensor], Tensor]] = {
    "Relu": torch.relu,
    "Sigmoid": torch.sigmoid,
    "Tanh": torch.tanh,
    "HardSwish": F.hardswish,
    "Softplus": F.softplus,
    "Mish": F.mish,
    "Exp": torch.exp,
    "Log": torch.log,
    "Sqrt": torch.sqrt,
    "Abs": torch.abs,
    "Neg": torch.neg,
    "Reciprocal": torch.reciprocal,
    "Sin": torch.sin,
    "Cos": torch.cos,
    "Tan": lambda x: torch.sin(x) / torch.cos(x),
    "Sinh": torch.sinh,
    "Cosh": torch.cosh,
    "Floor": torch.floor,
    "Ceil": torch.ceil,
    "Round": torch.round,
    "Sign": torch.sign,
    "Erf": torch.erf,
    "com.microsoft.QuickGelu": lambda x: x * torch.sigmoid(1.702 * x),
}
"""Operators without attributes, of one input."""
SELU_ALPHA, SELU_GAMMA = 1.67326319217681884765625, 1.05070102214813232421875
"""Defaults of the standard, constants of Klambauer et al., arXiv:1706.02515."""


def _register(op: str, function: Callable[[Tensor], Tensor]) -> None:
    reads(op)(lambda node, x: function(x))


for _op, _function in PLAIN.items():
    _register(_op, _function)


@reads("LeakyRelu")
def leaky_relu(node: OnnxNode, x: Tensor) -> Tensor:
    return F.leaky_relu(x, node.number("alpha", 0.01))


@reads("PRelu")
def prelu(node: OnnxNode, x: Tensor, slope: Tensor) -> Tensor:
    """Compute with a slope for each channel, which may also be any value that broadcasts."""
    per_channel = (x.shape[1] if x.dim() > 1 else 1, *(1,) * (x.dim() - 2))
    shape = tuple(slope.shape)
    if not is_traced(slope) and (slope.numel() == 1 or shape in (per_channel, (1, *per_channel))):
        return F.prelu(x, to_dtype_of(node.constant(slope, "a slope"), x).reshape(-1))
    return torch.relu(x) + slope * x.clamp(max=0.0)


@reads("Elu")
def elu(node: OnnxNode, x: Tensor) -> Tensor:
    return F.elu(x, node.number("alpha", 1.0))


@reads("Celu")
def celu(node: OnnxNode, x: Tensor) -> Tensor:
    return F.celu(x, node.number("alpha", 1.0))


@reads("Selu")
def selu(node: OnnxNode, x: Tensor) -> Tensor:
    alpha, gamma = node.number("alpha", SELU_ALPHA), node.number("gamma", SELU_GAMMA)
    return F.elu(x, alpha) * gamma


@reads("HardSigmoid")
def hard_sigmoid(node: OnnxNode, x: Tensor) -> Tensor:
    alpha, beta = node.number("alpha", 0.2), node.number("beta", 0.5)
    if math.isclose(alpha, 1 / 6, rel_tol=1e-6) and beta == 0.5:
        return F.hardsigmoid(x)
    return (x * alpha + beta).clamp(0.0, 1.0)


@reads("Softsign")
def softsign(node: OnnxNode, x: Tensor) -> Tensor:
    return x / (1 + x.abs())


@reads("Swish")
def swish(node: OnnxNode, x: Tensor) -> Tensor:
    alpha = node.number("alpha", 1.0)
    return F.silu(x) if alpha == 1 else x * torch.sigmoid(alpha * x)


@reads("ThresholdedRelu")
def thresholded_relu(node: OnnxNode, x: Tensor) -> Tensor:
    return F.threshold(x, node.number("alpha", 1.0), 0.0)


@reads("Shrink")
def shrink(node: OnnxNode, x: Tensor) -> Tensor:
    """Move by ``bias`` what is farther from 0 than ``lambd``; the rest becomes 0."""
    bias, limit = node.number("bias", 0.0), node.number("lambd", 0.5)
    above = torch.where(x > limit, x - bias, 0.0)
    return torch.where(x < -limit, x + bias, above)


@reads("Gelu")
def gelu(node: OnnxNode, x: Tensor) -> Tensor:
    return F.gelu(x, approximate=node.text("approximate", "none"))


@reads("com.microsoft.Gelu", "com.microsoft.BiasGelu")
def biased_gelu(node: OnnxNode, x: Tensor, bias: Tensor | None = None) -> Tensor:
    return F.gelu(x if bias is None else x + bias)


@reads("com.microsoft.FastGelu")
def fast_gelu(node: OnnxNode, x: Tensor, bias: Tensor | None = None) -> Tensor:
    return F.gelu(x if bias is None else x + bias, approximate="tanh")


@reads("Clip")
def clip(
    node: OnnxNode, x: Tensor, low: Tensor | None = None, high: Tensor | None = None
) -> Tensor:
    """Clip to bounds, which are attributes before opset 11 and inputs since; both are optional."""
    bounds = [low, high]
    numbers = [scalar(bound, 1) for bound in bounds]
    for place, attribute in enumerate(("min", "max")):
        if attribute in node.attributes:
            numbers[place] = node.number(attribute)
    if all(
        bound is None or number is not None for bound, number in zip(bounds, numbers, strict=True)
    ):
        finite = [None if n is None or abs(n) >= 3.4e38 else n for n in numbers]
        return x if finite == [None, None] else x.clamp(*finite)
    x = x if low is None else torch.maximum(x, low)
    return x if high is None else torch.minimum(x, high)


@reads("Softmax", "LogSoftmax")
def softmax(node: OnnxNode, x: Tensor) -> Tensor:
    """Compute over an axis; before opset 13 over all axes from ``axis`` on at once."""
    function = torch.softmax if node.op == "Softmax" else torch.log_softmax
    axis = node.integer("axis", -1 if node.version >= 13 else 1) % x.dim()
    others = math.prod(x.shape[axis + 1 :])
    if node.version >= 13 or others == 1:
        return function(x, axis)
    rows = x.reshape(math.prod(x.shape[:axis]), -1)
    return function(rows, 1).reshape(x.shape)
