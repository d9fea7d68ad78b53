"""Mobile networks computed from a state dict by functions of torch, without modules or blocks."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor

Weights = Mapping[str, Tensor]
Padding = Literal["same", "symmetric"]


def padded(x: Tensor, kernel_size: int, stride: int, padding: Padding) -> Tensor:
    """Return ``x`` with zeros around; TensorFlow's SAME by trying how many are needed."""
    if padding == "symmetric":
        return F.pad(x, (kernel_size // 2,) * 4)
    outputs = -(-x.shape[-1] // stride)
    total = 0
    while (x.shape[-1] + total - kernel_size) // stride + 1 < outputs:
        total += 1
    before = total // 2
    return F.pad(x, (before, total - before, before, total - before))


def conv_norm(
    x: Tensor,
    weights: Weights,
    conv: str,
    norm: str,
    stride: int = 1,
    padding: Padding = "symmetric",
    eps: float = 1e-5,
) -> Tensor:
    """Return the batch-normed convolution; a kernel with one input channel is depthwise."""
    kernel = weights[f"{conv}.weight"]
    groups = x.shape[1] // kernel.shape[1]
    y = F.conv2d(padded(x, kernel.shape[-1], stride, padding), kernel, stride=stride, groups=groups)
    mean, variance = (weights[f"{norm}.running_{name}"] for name in ("mean", "var"))
    return F.batch_norm(
        y, mean, variance, weights[f"{norm}.weight"], weights[f"{norm}.bias"], eps=eps
    )


def squeeze_excite(x: Tensor, weights: Weights, reduce: str, expand: str) -> Tensor:
    """Return ``x`` scaled by the hard sigmoid of a bottleneck of its means."""
    pooled = x.mean(dim=(2, 3), keepdim=True)
    hidden = F.conv2d(pooled, weights[f"{reduce}.weight"], weights[f"{reduce}.bias"]).relu()
    gate = F.conv2d(hidden, weights[f"{expand}.weight"], weights[f"{expand}.bias"])
    return x * (gate + 3).clamp(0, 6) / 6


def hswish(x: Tensor) -> Tensor:
    return x * (x + 3).clamp(0, 6) / 6


def random_norm(weights: dict[str, Tensor], name: str, channels: int, rng: torch.Generator) -> None:
    weights[f"{name}.weight"] = 0.5 + torch.rand(channels, generator=rng)
    weights[f"{name}.bias"] = 0.3 * torch.randn(channels, generator=rng)
    weights[f"{name}.running_mean"] = 0.3 * torch.randn(channels, generator=rng)
    weights[f"{name}.running_var"] = 0.5 + torch.rand(channels, generator=rng)
    weights[f"{name}.num_batches_tracked"] = torch.tensor(3)


def random_conv(
    weights: dict[str, Tensor], name: str, shape: tuple[int, ...], rng: torch.Generator
) -> None:
    fan_in = shape[1] * shape[2] * shape[3]
    weights[f"{name}.weight"] = torch.randn(shape, generator=rng) * (2 / fan_in) ** 0.5
