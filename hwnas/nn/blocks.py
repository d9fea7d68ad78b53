"""`Block` (plain data) as PyTorch modules; images are ``[N, C, H, W]`` everywhere.

MBConv: Sandler et al., "MobileNetV2", CVPR 2018, arXiv:1801.04381. Squeeze-excite, h-swish, `Mix`
and `Hidden` as in Howard et al., "Searching for MobileNetV3", ICCV 2019, arXiv:1905.02244. SiLU and
sigmoid gates: Tan and Le, "EfficientNet", ICML 2019, arXiv:1905.11946. Fused MBConv: Gupta and Tan,
"EfficientNet-EdgeTPU", 2019; with expand ratio 1 it is one dense convolution. Universal inverted
bottleneck: Qin et al., "MobileNetV4", ECCV 2024, arXiv:2404.10518. ResNet: He et al.,
CVPR 2016, arXiv:1512.03385, figure 5, with the stride in the bottleneck's kxk convolution, which
may have groups (Xie et al., "ResNeXt", CVPR 2017, arXiv:1611.05431) and a squeeze-excite behind it
(Radosavovic et al., "RegNet", CVPR 2020, arXiv:2003.13678). ShuffleNet: Ma et al., "ShuffleNet V2",
ECCV 2018, arXiv:1807.11164, figure 3.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from hwnas.architecture.architecture import OPS, Block
from hwnas.errors import UnknownName, UsageError
from hwnas.nn.cells.ops import CELL_OPS, StridedPointwise, cell_op
from hwnas.nn.dense_ops import BareConv, DenseLayer, NormRelu, Transition
from hwnas.nn.depthwise import DepthwiseConv2d
from hwnas.nn.padding import SameConv2d, SameDepthwiseConv2d
from hwnas.nn.tree_ops import TREE_OPS, tree_op

ACTIVATIONS: dict[str, Callable[[], nn.Module]] = {
    "relu": nn.ReLU,
    "relu6": nn.ReLU6,
    "hswish": nn.Hardswish,
    "silu": nn.SiLU,
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
        padding: str = "symmetric",
        groups: int = 1,
    ) -> None:
        super().__init__()
        if depthwise:
            kind = SameDepthwiseConv2d if padding == "same" else DepthwiseConv2d
            self.conv = kind(in_channels, kernel_size, stride)
        elif padding == "same":
            self.conv = SameConv2d(in_channels, out_channels, kernel_size, stride)
        elif (kernel_size, stride) == (1, 2):
            self.conv = StridedPointwise(in_channels, out_channels)
        else:
            pixels = kernel_size // 2
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
            self.layers.add_module("dense", _conv(block, block.out_channels))
        else:
            self.layers.add_module("dense", _conv(block, block.mid_channels))
            project = ConvNorm(block.mid_channels, block.out_channels, 1)
            self.layers.add_module("project", project)

    def forward(self, x: Tensor) -> Tensor:
        y = self.layers(x)
        return x + y if self.residual else y


class ResidualBlock(nn.Module):
    """A basic block or bottleneck of ResNet: convolutions, a shortcut, an activation after the sum.

    The shortcut is a convolution 1x1 with norm where input and output differ in shape.
    """

    def __init__(self, block: Block) -> None:
        super().__init__()
        c_in, c_out, stride = block.in_channels, block.out_channels, block.stride
        self.residual = block.residual
        self.layers = _bottleneck(block) if block.op == "bottleneck" else _basic(block)
        self.shortcut = nn.Identity() if block.residual else ConvNorm(c_in, c_out, 1, stride)
        self.act = ACTIVATIONS[block.activation]()

    def forward(self, x: Tensor) -> Tensor:
        return self.act(self.total(x))

    def total(self, x: Tensor) -> Tensor:
        """Return the sum of branch and shortcut, before the activation."""
        return self.layers(x) + self.shortcut(x)


class Mix(nn.Sequential):
    """Global average pool, convolution 1x1 without norm or bias, and the activation."""

    def __init__(self, block: Block) -> None:
        super().__init__()
        self.pool = nn.AdaptiveAvgPool2d(1)
        self.conv = nn.Conv2d(block.in_channels, block.out_channels, 1, bias=False)
        self.act = ACTIVATIONS[block.activation]()


class Hidden(nn.Sequential):
    """Global average pool, linear layer with bias, and the activation: to a single pixel.

    The linear layer is a convolution 1x1.
    """

    def __init__(self, block: Block) -> None:
        super().__init__()
        self.pool = nn.AdaptiveAvgPool2d(1) if block.in_size != 1 else nn.Identity()
        self.linear = nn.Conv2d(block.in_channels, block.out_channels, 1)
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


class NormLogits(NormRelu):
    """The end of a pre-activated network: batch norm and ReLU before `Logits`."""

    def __init__(self, block: Block) -> None:
        super().__init__(block.in_channels)
        self.logits = Logits(block)


def _conv(block: Block, out_channels: int) -> ConvNorm:
    return ConvNorm(
        block.in_channels,
        out_channels,
        block.kernel_size,
        block.stride,
        activation=block.activation,
        padding=block.padding,
    )


def _basic(block: Block) -> nn.Sequential:
    layers = nn.Sequential()
    layers.first = _conv(block, block.mid_channels)
    layers.last = ConvNorm(block.mid_channels, block.out_channels, block.kernel_size)
    return layers


def _bottleneck(block: Block) -> nn.Sequential:
    mid, kernel_size, act = block.mid_channels, block.kernel_size, block.activation
    layers = nn.Sequential()
    layers.reduce = ConvNorm(block.in_channels, mid, 1, activation=act)
    layers.spatial = ConvNorm(
        mid, mid, kernel_size, block.stride, activation=act, groups=block.groups
    )
    if block.squeeze_excite:
        layers.se = SqueezeExcite(mid, block.se_channels, act, block.gate)
    layers.restore = ConvNorm(mid, block.out_channels, 1)
    return layers


MODULES: dict[str, Callable[[Block], nn.Module]] = {
    "conv": lambda block: _conv(block, block.out_channels),
    **dict.fromkeys(("mbconv", "uib"), MBConv),
    "depthwise_separable": DepthwiseSeparable,
    "shuffle_unit": ShuffleUnit,
    "fused_mbconv": FusedMBConv,
    **dict.fromkeys(("basic", "bottleneck"), ResidualBlock),
    "mix": Mix,
    "hidden": Hidden,
    "logits": Logits,
    "norm_logits": NormLogits,
    "global_pool": lambda block: nn.AdaptiveAvgPool2d(1),
    "bare_conv": BareConv,
    "dense_layer": DenseLayer,
    "transition": Transition,
    **dict.fromkeys(CELL_OPS, cell_op),
    **dict.fromkeys(TREE_OPS, tree_op),
}
"""The module of every operation in `hwnas.architecture.ops.OPS`."""


def block_module(block: Block) -> nn.Module:
    """Return the module that computes ``block``, with PyTorch's initial weights."""
    if block.op not in MODULES:
        raise UnknownName("operation", block.op, MODULES)
    if block.padding == "same" and not block.spec.can_pad_same:
        known = ", ".join(op for op, row in OPS.items() if row.can_pad_same)
        raise UsageError(f"block {block.key}: padding 'same' is only supported for {known}")
    if block.group_width and (block.op != "bottleneck" or block.mid_channels % block.group_width):
        raise UsageError(
            f"block {block.key}: groups of {block.group_width} channels, expected a divisor of the "
            f"{block.mid_channels} inner channels of a bottleneck"
        )
    return MODULES[block.op](block)
