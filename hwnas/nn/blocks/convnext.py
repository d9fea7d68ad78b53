"""The blocks of ConvNeXt: Liu et al., "A ConvNet for the 2020s", CVPR 2022, arXiv:2201.03545."""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor, nn

from hwnas.architecture.architecture import Block
from hwnas.nn.blocks.layers import ConvNorm

LAYER_NORM_EPS = 1e-6
"""Constant that the norms add to the variance, as in the authors' code."""


class ChannelNorm(nn.LayerNorm):
    """A layer norm of the channels of each pixel of images ``[N, C, H, W]``."""

    def __init__(self, channels: int, eps: float = LAYER_NORM_EPS) -> None:
        super().__init__(channels, eps=eps)

    def forward(self, input: Tensor) -> Tensor:
        pixels = input.permute(0, 2, 3, 1)
        normed = F.layer_norm(pixels, self.normalized_shape, self.weight, self.bias, self.eps)
        return normed.permute(0, 3, 1, 2)


class ConvNeXtBlock(nn.Module):
    """Depthwise convolution, layer norm, expansion with activation, projection, shortcut.

    The batch norms are affine maps for biases and the layer scale, and change nothing else.
    """

    def __init__(self, block: Block) -> None:
        super().__init__()
        c_in, mid, act = block.in_channels, block.mid_channels, block.activation
        self.residual = block.residual
        self.layers = nn.Sequential()
        self.layers.depthwise = ConvNorm(c_in, c_in, block.kernel_size, block.stride, True)
        self.layers.norm = ChannelNorm(c_in)
        self.layers.expand = ConvNorm(c_in, mid, 1, activation=act)
        self.layers.project = ConvNorm(mid, block.out_channels, 1)

    def forward(self, x: Tensor) -> Tensor:
        y = self.layers(x)
        return x + y if self.residual else y
