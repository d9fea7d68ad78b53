"""Convolutions without a shortcut, as in VGG.

Simonyan and Zisserman, "Very Deep Convolutional Networks for Large-Scale Image Recognition", ICLR
2015, arXiv:1409.1556; with batch norms.
"""

from __future__ import annotations

from torch import Tensor, nn

from hwnas.architecture.architecture import Block
from hwnas.nn.blocks.layers import ConvNorm, conv_norm


class DoubleConv(nn.Module):
    """Two convolutions of the same kernel size with activations; the first has the stride."""

    def __init__(self, block: Block) -> None:
        super().__init__()
        mid, size, act = block.mid_channels, block.kernel_size, block.activation
        self.layers = nn.Sequential()
        self.layers.first = conv_norm(block, mid)
        self.layers.last = ConvNorm(mid, block.out_channels, size, activation=act)

    def forward(self, x: Tensor) -> Tensor:
        return self.layers(x)
