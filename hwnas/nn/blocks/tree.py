"""The blocks of ProxylessNAS's CIFAR-10 network as PyTorch modules.

Cai, Zhu and Han, ICLR 2019, arXiv:1812.00332, section 4.1, on the tree cells of Cai et al.,
"Path-Level Network Transformation", ICML 2018, arXiv:1806.02639. Batch norm and ReLU come before
the convolutions; no convolution has a bias.
"""

from __future__ import annotations

from collections.abc import Callable

import torch.nn.functional as F
from torch import Tensor, nn

from hwnas.architecture.architecture import Block
from hwnas.architecture.layers import GROUPS
from hwnas.nn.depthwise import DepthwiseConv2d


class PreActivation(nn.Sequential):
    """Batch norm and optionally ReLU; the functions below add the layers after them."""

    def __init__(self, block: Block, relu: bool = True) -> None:
        super().__init__()
        self.norm = nn.BatchNorm2d(block.in_channels)
        if relu:
            self.act = nn.ReLU()


class ChannelHalf(nn.Module):
    """The first or the second half of ``[N, 2 C, H, W]``."""

    def __init__(self, block: Block) -> None:
        super().__init__()
        self.begin = 0 if block.op == "first_half" else block.out_channels
        self.end = self.begin + block.out_channels

    def forward(self, x: Tensor) -> Tensor:
        return x[:, self.begin : self.end]


class PadChannels(nn.Module):
    """Append channels of zeros, so that a narrower shortcut can be added."""

    def __init__(self, block: Block) -> None:
        super().__init__()
        self.added = block.out_channels - block.in_channels

    def forward(self, x: Tensor) -> Tensor:
        return F.pad(x, (0, 0, 0, 0, 0, self.added))


def _conv(block: Block, groups: int = 1) -> nn.Conv2d:
    return nn.Conv2d(
        block.in_channels,
        block.out_channels,
        block.kernel_size,
        block.stride,
        block.kernel_size // 2,
        groups=groups,
        bias=False,
    )


def _bn_conv(block: Block) -> nn.Module:
    layers = PreActivation(block, relu=False)
    layers.conv = _conv(block)
    return layers


def _bn_relu_conv_bn(block: Block) -> nn.Module:
    layers = PreActivation(block)
    layers.conv = _conv(block)
    layers.last_norm = nn.BatchNorm2d(block.out_channels)
    return layers


def _bn_relu_group_conv(block: Block) -> nn.Module:
    layers = PreActivation(block)
    layers.conv = _conv(block, GROUPS)
    layers.shuffle = nn.ChannelShuffle(GROUPS)
    return layers


def _bn_relu_sep_conv(block: Block) -> nn.Module:
    layers = PreActivation(block)
    layers.depthwise = DepthwiseConv2d(block.in_channels, block.kernel_size, block.stride)
    layers.pointwise = nn.Conv2d(block.in_channels, block.out_channels, 1, bias=False)
    return layers


def _bn_relu_dil_conv(block: Block) -> nn.Module:
    channels, kernel_size = block.in_channels, block.kernel_size
    layers = PreActivation(block)
    layers.depthwise = nn.Conv2d(
        channels,
        channels,
        kernel_size,
        block.stride,
        2 * (kernel_size // 2),
        2,
        channels,
        bias=False,
    )
    layers.pointwise = nn.Conv2d(channels, block.out_channels, 1, bias=False)
    return layers


_OPS: dict[str, Callable[[Block], nn.Module]] = {
    "bn_conv": _bn_conv,
    "bn_relu_conv_bn": _bn_relu_conv_bn,
    "bn_relu_group_conv": _bn_relu_group_conv,
    "bn_relu_sep_conv": _bn_relu_sep_conv,
    "bn_relu_dil_conv": _bn_relu_dil_conv,
    "first_half": ChannelHalf,
    "second_half": ChannelHalf,
    "pad_channels": PadChannels,
}
TREE_OPS = tuple(_OPS)


def tree_op(block: Block) -> nn.Module:
    """Return the module that computes one of `TREE_OPS`."""
    return _OPS[block.op](block)
