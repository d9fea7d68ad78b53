"""The last blocks of a network: hidden layers and the classifier.

`Mix` and `Hidden` as in Howard et al., "Searching for MobileNetV3", ICCV 2019, arXiv:1905.02244.
"""

from __future__ import annotations

from torch import Tensor, nn

from hwnas.architecture.architecture import Block
from hwnas.nn.blocks.dense import NormRelu
from hwnas.nn.blocks.layers import ACTIVATIONS


class Mix(nn.Sequential):
    """Global average pool, convolution 1x1 without norm or bias, and the activation."""

    def __init__(self, block: Block) -> None:
        super().__init__()
        self.pool = nn.AdaptiveAvgPool2d(1)
        self.conv = nn.Conv2d(block.in_channels, block.out_channels, 1, bias=False)
        self.act = ACTIVATIONS[block.activation]()


class Hidden(nn.Sequential):
    """Average pool, linear layer with bias of all its pixels, and the activation: to one pixel.

    The pool leaves ``kernel_size`` pixels in height and width: 1, or 7 in VGG (Simonyan and
    Zisserman, ICLR 2015, arXiv:1409.1556). The linear layer is a convolution of that size.
    """

    def __init__(self, block: Block) -> None:
        super().__init__()
        grid = block.kernel_size
        self.pool = nn.AdaptiveAvgPool2d(grid) if block.in_size != grid else nn.Identity()
        self.linear = nn.Conv2d(block.in_channels, block.out_channels, grid)
        self.act = ACTIVATIONS[block.activation]()


class Logits(nn.Module):
    """Global average pool, dropout and the linear layer: ``[N, C, H, W]`` to ``[N, classes]``."""

    def __init__(self, block: Block, dropout: float = 0.0) -> None:
        super().__init__()
        self.pool = nn.AdaptiveAvgPool2d(1) if block.in_size != 1 else nn.Identity()
        self.flatten = nn.Flatten()
        self.dropout = nn.Dropout(dropout)
        self.linear = nn.Linear(block.in_channels, block.out_channels)

    def forward(self, x: Tensor) -> Tensor:
        return self.linear(self.dropout(self.flatten(self.pool(x))))


class ConvLogits(nn.Module):
    """Convolution 1x1 with bias, activation and global average pool, as in SqueezeNet.

    Iandola et al., 2016, arXiv:1602.07360, figure 2.
    """

    def __init__(self, block: Block) -> None:
        super().__init__()
        self.linear = nn.Conv2d(block.in_channels, block.out_channels, 1)
        self.act = ACTIVATIONS[block.activation]()
        self.pool = nn.AdaptiveAvgPool2d(1)
        self.flatten = nn.Flatten()

    def forward(self, x: Tensor) -> Tensor:
        return self.flatten(self.pool(self.act(self.linear(x))))


class NormLogits(NormRelu):
    """The end of a pre-activated network: batch norm and ReLU before `Logits`."""

    def __init__(self, block: Block) -> None:
        super().__init__(block.in_channels)
        self.logits = Logits(block)
