"""The blocks of DenseNet-BC: Huang et al., CVPR 2017, arXiv:1608.06993, section 3.

Batch norm and ReLU come before each convolution (pre-activation); no convolution has a bias.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from hwnas.architecture.architecture import Block


class BareConv(nn.Sequential):
    """A convolution without batch norm and activation, which the next block begins with."""

    def __init__(self, block: Block) -> None:
        super().__init__()
        self.conv = nn.Conv2d(
            block.in_channels,
            block.out_channels,
            block.kernel_size,
            block.stride,
            block.kernel_size // 2,
            bias=False,
        )


class NormRelu(nn.Sequential):
    """Batch norm and ReLU; subclasses add the layers after them."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.norm = nn.BatchNorm2d(channels)
        self.act = nn.ReLU()


class DenseLayer(nn.Module):
    """A bottleneck layer that appends its features to its input: ``[x, f(x)]``."""

    def __init__(self, block: Block) -> None:
        super().__init__()
        mid, kernel_size = block.mid_channels, block.kernel_size
        self.bottleneck = NormRelu(block.in_channels)
        self.bottleneck.conv = nn.Conv2d(block.in_channels, mid, 1, bias=False)
        self.grow = NormRelu(mid)
        self.grow.conv = nn.Conv2d(
            mid, block.growth, kernel_size, padding=kernel_size // 2, bias=False
        )

    def forward(self, x: Tensor) -> Tensor:
        return torch.cat((x, self.grow(self.bottleneck(x))), dim=1)


class Transition(NormRelu):
    """A 1x1 convolution and an average pool that downsample between two dense blocks."""

    def __init__(self, block: Block) -> None:
        super().__init__(block.in_channels)
        self.conv = nn.Conv2d(block.in_channels, block.out_channels, 1, bias=False)
        self.pool = nn.AvgPool2d(block.kernel_size, block.stride)
