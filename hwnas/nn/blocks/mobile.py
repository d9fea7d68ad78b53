"""The blocks of mobile networks.

MBConv: Sandler et al., "MobileNetV2", CVPR 2018, arXiv:1801.04381. Fused MBConv: Gupta and Tan,
"EfficientNet-EdgeTPU", 2019; with expand ratio 1 it is one dense convolution. Universal inverted
bottleneck: Qin et al., "MobileNetV4", ECCV 2024, arXiv:2404.10518. ShuffleNet: Ma et al.,
"ShuffleNet V2", ECCV 2018, arXiv:1807.11164, figure 3.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from hwnas.architecture.architecture import Block
from hwnas.nn.blocks.layers import ConvNorm, SqueezeExcite, conv_norm


class MBConv(nn.Module):
    """Inverted bottleneck: expand 1x1, depthwise, (squeeze-excite,) project 1x1, shortcut.

    A universal one (``uib``) has depthwise convolutions before the expansion, after it, or both,
    and an expansion of any ratio; in others a ratio of 1 is no layer.
    """

    def __init__(self, block: Block) -> None:
        super().__init__()
        mid, act = block.mid_channels, block.activation
        self.residual = block.residual
        self.layers = nn.Sequential()
        c_in, kernel_size = block.in_channels, block.kernel_size
        has_depthwise = block.op == "mbconv" or kernel_size > 1
        if start_size := block.start_kernel_size:
            stride = 1 if has_depthwise else block.stride
            self.layers.add_module("start", ConvNorm(c_in, c_in, start_size, stride, True))
        if block.op == "uib" or block.expand_ratio != 1:
            self.layers.add_module("expand", ConvNorm(c_in, mid, 1, activation=act))
        if has_depthwise:
            self.layers.add_module(
                "depthwise",
                ConvNorm(mid, mid, kernel_size, block.stride, True, act, block.padding),
            )
        if block.squeeze_excite:
            gate = SqueezeExcite(mid, block.se_channels, act, block.gate)
            self.layers.add_module("se", gate)
        self.layers.add_module("project", ConvNorm(mid, block.out_channels, 1))

    def forward(self, x: Tensor) -> Tensor:
        y = self.layers(x)
        return x + y if self.residual else y


class DepthwiseSeparable(nn.Module):
    """Depthwise convolution, (squeeze-excite,) and convolution 1x1, both with activation.

    Howard et al., "MobileNets", 2017, arXiv:1704.04861.
    """

    def __init__(self, block: Block) -> None:
        super().__init__()
        c_in, act = block.in_channels, block.activation
        self.layers = nn.Sequential()
        self.layers.depthwise = ConvNorm(
            c_in, c_in, block.kernel_size, block.stride, True, act, block.padding
        )
        if block.squeeze_excite:
            self.layers.se = SqueezeExcite(c_in, block.se_channels, act, block.gate)
        self.layers.pointwise = ConvNorm(c_in, block.out_channels, 1, activation=act)

    def forward(self, x: Tensor) -> Tensor:
        return self.layers(x)


class ShuffleUnit(nn.Module):
    """Half of the channels through convolutions, then a shuffle with the other half.

    With a stride both branches take all channels and have convolutions.
    """

    def __init__(self, block: Block) -> None:
        super().__init__()
        half, mid, act = block.out_channels // 2, block.mid_channels, block.activation
        size, stride = block.kernel_size, block.stride
        c_in = block.in_channels if stride > 1 else block.in_channels // 2
        self.side = nn.Sequential()
        if stride > 1:
            self.side.depthwise = ConvNorm(c_in, c_in, size, stride, True)
            self.side.pointwise = ConvNorm(c_in, half, 1, activation=act)
        self.layers = nn.Sequential()
        self.layers.expand = ConvNorm(c_in, mid, 1, activation=act)
        self.layers.depthwise = ConvNorm(mid, mid, size, stride, True)
        self.layers.project = ConvNorm(mid, half, 1, activation=act)
        self.shuffle = nn.ChannelShuffle(2)

    def forward(self, x: Tensor) -> Tensor:
        first, second = (x, x) if self.side else x.chunk(2, dim=1)
        return self.shuffle(torch.cat((self.side(first), self.layers(second)), dim=1))


class FusedMBConv(nn.Module):
    """Expansion and depthwise convolution fused into one dense convolution, then project."""

    def __init__(self, block: Block) -> None:
        super().__init__()
        self.residual = block.residual
        self.layers = nn.Sequential()
        if block.expand_ratio == 1:
            self.layers.add_module("dense", conv_norm(block, block.out_channels))
        else:
            self.layers.add_module("dense", conv_norm(block, block.mid_channels))
            project = ConvNorm(block.mid_channels, block.out_channels, 1)
            self.layers.add_module("project", project)

    def forward(self, x: Tensor) -> Tensor:
        y = self.layers(x)
        return x + y if self.residual else y
