"""Fixed pieces: the graph of layers that a block lists, computed as it stands.

Response norm: Woo et al., "ConvNeXt V2", CVPR 2023, arXiv:2301.00808, section 3.2.
"""

from __future__ import annotations

import operator
from collections.abc import Callable, Sequence
from functools import reduce

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from hwnas.architecture.architecture import Block
from hwnas.architecture.piece.shapes import Shape, value_shapes
from hwnas.architecture.piece.steps import Step, steps_of
from hwnas.errors import UsageError
from hwnas.nn.blocks.convnext import ChannelNorm
from hwnas.nn.blocks.layers import ACTIVATIONS, GATES
from hwnas.nn.padding import SameConv2d

FUNCTIONS: dict[str, Callable[[], nn.Module]] = {
    **ACTIVATIONS,
    **GATES,
    "tanh": nn.Tanh,
    "gelu_tanh": lambda: nn.GELU("tanh"),
}


class Piece(nn.Module):
    """The layers of `Block.piece`, ``layers.N`` those of step N; N counts from 1."""

    def __init__(self, block: Block) -> None:
        super().__init__()
        self.steps = steps_of(block.piece)
        shapes = value_shapes(block.piece, block.in_channels, block.in_size)
        if shapes[-1].channels != block.out_channels:
            raise UsageError(
                f"block {block.label}: its layers give {shapes[-1].channels} channels, "
                f"expected {block.out_channels}"
            )
        self.layers = nn.ModuleDict()
        for number, step in enumerate(self.steps, 1):
            inputs = [shapes[source] for source in step.inputs]
            if (layer := _layer(step, inputs)) is not None:
                self.layers[str(number)] = layer
        self._last_uses = {
            source: number for number, step in enumerate(self.steps, 1) for source in step.inputs
        }

    def forward(self, x: Tensor) -> Tensor:
        values = {0: x}
        for number, step in enumerate(self.steps, 1):
            inputs = [values[source] for source in step.inputs]
            name = str(number)
            own = name in self.layers
            values[number] = self.layers[name](inputs[0]) if own else _joined(step, inputs)
            for source in set(step.inputs):
                if self._last_uses[source] == number:
                    del values[source]
        return values[len(self.steps)]


class ResponseNorm(nn.Module):
    """Each channel times its share of the response: ``x + weight * (x * share) + bias``.

    The response of a channel is the root of the sum of squares of its pixels; its share is the
    response over the mean of all channels.
    """

    def __init__(self, channels: int, eps: float) -> None:
        super().__init__()
        self.weight, self.bias = (nn.Parameter(torch.zeros(channels)) for _ in range(2))
        self.eps = eps

    def forward(self, x: Tensor) -> Tensor:
        response = x.norm(p=2, dim=(2, 3), keepdim=True)
        share = response / (response.mean(dim=1, keepdim=True) + self.eps)
        weight, bias = (each[:, None, None] for each in (self.weight, self.bias))
        return x + torch.addcmul(bias, weight, x * share)


class Scale(nn.Module):
    """The product with a parameter, of each channel or of all."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(channels))

    def forward(self, x: Tensor) -> Tensor:
        return x * self.weight[:, None, None]


class Span(nn.Module):
    """Some of the channels."""

    def __init__(self, start: int, stop: int) -> None:
        super().__init__()
        self.start, self.stop = start, stop

    def forward(self, x: Tensor) -> Tensor:
        return x[:, self.start : self.stop]


class Constant(nn.Module):
    """A sum or product with a number."""

    def __init__(self, step: Step) -> None:
        super().__init__()
        self.op, self.value = step.op, step.value

    def forward(self, x: Tensor) -> Tensor:
        return x * self.value if self.op == "times" else x + self.value


def _joined(step: Step, inputs: Sequence[Tensor]) -> Tensor:
    if step.op == "concat":
        return torch.cat(list(inputs), dim=1)
    if step.op == "resize":
        return F.interpolate(inputs[0], inputs[1].shape[2:], mode="nearest")
    return reduce(operator.add if step.op == "add" else operator.mul, inputs)


def _layer(step: Step, inputs: Sequence[Shape]) -> nn.Module | None:
    """Return the module of a step, without one for a step of several values."""
    channels = inputs[0].channels
    match step.op:
        case "conv":
            return _conv(step, channels)
        case "norm":
            return nn.BatchNorm2d(channels)
        case "layer_norm":
            return ChannelNorm(channels, step.value)
        case "response_norm":
            return ResponseNorm(channels, step.value)
        case "scale":
            return Scale(step.out_channels or channels)
        case "max_pool" | "avg_pool":
            return _pool(step)
        case "global_pool":
            return nn.AdaptiveAvgPool2d(1)
        case "slice" | "chunk":
            return _span(step, channels)
        case "shuffle":
            return nn.ChannelShuffle(step.groups)
        case "leaky_relu":
            return nn.LeakyReLU(step.value)
        case "times" | "plus":
            return Constant(step)
        case op:
            return FUNCTIONS[op]() if op in FUNCTIONS else None


def _conv(step: Step, channels: int) -> nn.Conv2d:
    out, kernel, stride, groups = step.out_channels, step.kernel, step.stride, step.groups
    if step.padding == "same":
        return SameConv2d(channels, out, kernel[0], stride[0], groups, step.bias)
    return nn.Conv2d(channels, out, kernel, stride, step.padding, step.dilation, groups, step.bias)


def _pool(step: Step) -> nn.Module:
    assert step.padding != "same"
    padding = step.padding
    if step.op == "max_pool":
        return nn.MaxPool2d(step.kernel, step.stride, padding, step.dilation, ceil_mode=step.ceil)
    return nn.AvgPool2d(step.kernel, step.stride, padding, step.ceil, step.counts_padding)


def _span(step: Step, channels: int) -> Span:
    start, stop = step.span
    if step.op == "slice":
        return Span(start, min(stop or channels, channels))
    each = -(-channels // stop)
    return Span(each * start, min(each * (start + 1), channels))
