"""Layers that many blocks have: a convolution with norm and activation, a squeeze-excite.

Squeeze-excite and h-swish as in Howard et al., "Searching for MobileNetV3", ICCV 2019,
arXiv:1905.02244. SiLU and sigmoid gates: Tan and Le, "EfficientNet", ICML 2019, arXiv:1905.11946.
"""

from __future__ import annotations

from collections.abc import Callable

import torch.nn.functional as F
from torch import Tensor, nn

from hwnas.architecture.architecture import Block
from hwnas.architecture.block import symmetric_padding_px
from hwnas.nn.cells.ops import StridedPointwise
from hwnas.nn.depthwise import DepthwiseConv2d
from hwnas.nn.padding import SameConv2d, SameDepthwiseConv2d

ACTIVATIONS: dict[str, Callable[[], nn.Module]] = {
    "relu": nn.ReLU,
    "relu6": nn.ReLU6,
    "hswish": nn.Hardswish,
    "silu": nn.SiLU,
    "gelu": nn.GELU,
}
GATES: dict[str, Callable[[], nn.Module]] = {"hardsigmoid": nn.Hardsigmoid, "sigmoid": nn.Sigmoid}


class ConvNorm(nn.Sequential):
    """Convolution without bias, batch norm and, if named, an activation."""

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        kernel_size: int,
        stride: int = 1,
        depthwise: bool = False,
        activation: str | None = None,
        padding: str | int = "symmetric",
        groups: int = 1,
    ) -> None:
        super().__init__()
        if depthwise:
            kind = SameDepthwiseConv2d if padding == "same" else DepthwiseConv2d
            self.conv = kind(in_channels, kernel_size, stride)
        elif padding == "same":
            self.conv = SameConv2d(in_channels, out_channels, kernel_size, stride)
        elif (kernel_size, stride, padding) == (1, 2, "symmetric"):
            self.conv = StridedPointwise(in_channels, out_channels)
        else:
            symmetric_px = symmetric_padding_px(kernel_size)
            pixels = padding if isinstance(padding, int) else symmetric_px
            self.conv = nn.Conv2d(
                in_channels, out_channels, kernel_size, stride, pixels, groups=groups, bias=False
            )
        self.norm = nn.BatchNorm2d(out_channels)
        if activation is not None:
            self.act = ACTIVATIONS[activation]()


class SqueezeExcite(nn.Module):
    """Scale each channel by a gate computed from the global average of all.

    Between its layers is a ReLU, or a SiLU where the block has SiLUs.
    """

    def __init__(
        self, channels: int, squeezed: int, activation: str = "relu", gate: str = "hardsigmoid"
    ) -> None:
        super().__init__()
        self.squeeze = nn.Conv2d(channels, squeezed, 1)
        self.act = nn.SiLU() if activation == "silu" else nn.ReLU()
        self.excite = nn.Conv2d(squeezed, channels, 1)
        self.gate = GATES[gate]()

    def forward(self, x: Tensor) -> Tensor:
        pooled = F.adaptive_avg_pool2d(x, 1)
        return x * self.gate(self.excite(self.act(self.squeeze(pooled))))


def conv_norm(block: Block, out_channels: int) -> ConvNorm:
    return ConvNorm(
        block.in_channels,
        out_channels,
        block.kernel_size,
        block.stride,
        activation=block.activation,
        padding=block.padding,
    )
