"""The blocks of ResNet: He et al., CVPR 2016, arXiv:1512.03385, figure 5.

The stride is in the bottleneck's kxk convolution, which may have groups (Xie et al., "ResNeXt",
CVPR 2017, arXiv:1611.05431) and a squeeze-excite behind it (Radosavovic et al., "RegNet", CVPR
2020, arXiv:2003.13678); that of SENet is at the end of the branch (Hu et al., CVPR 2018,
arXiv:1709.01507). ResNet-D: He et al., "Bag of Tricks", CVPR 2019, arXiv:1812.01187,
figure 2.
"""

from __future__ import annotations

from torch import Tensor, nn

from hwnas.architecture.architecture import Block
from hwnas.nn.blocks.layers import ACTIVATIONS, ConvNorm, SqueezeExcite, conv_norm


class ResidualBlock(nn.Module):
    """A basic block or bottleneck of ResNet: convolutions, a shortcut, an activation after the sum.

    The shortcut is a convolution 1x1 with norm where input and output differ in shape, in ResNet-D
    behind an average pool.
    """

    def __init__(self, block: Block) -> None:
        super().__init__()
        c_in, c_out, stride = block.in_channels, block.out_channels, block.stride
        self.residual = block.residual
        self.layers = _bottleneck(block) if block.op.startswith("bottleneck") else _basic(block)
        self.gate = _output_gate(block)
        self.shortcut = nn.Identity() if block.residual else ConvNorm(c_in, c_out, 1, stride)
        if block.spec.pools_shortcut:
            self.shortcut = _pooled(block)
        self.act = ACTIVATIONS[block.activation]()

    def forward(self, x: Tensor) -> Tensor:
        return self.act(self.total(x))

    def total(self, x: Tensor) -> Tensor:
        """Return the sum of branch and shortcut, before the activation."""
        return self.gate(self.layers(x)) + self.shortcut(x)


def _output_gate(block: Block) -> nn.Module:
    if not (block.spec.gates_output and block.squeeze_excite):
        return nn.Identity()
    return SqueezeExcite(block.out_channels, block.se_channels, block.activation, block.gate)


def _pooled(block: Block) -> nn.Sequential:
    layers = nn.Sequential()
    layers.pool = nn.AvgPool2d(2, block.stride, ceil_mode=True, count_include_pad=False)
    layers.conv = nn.Conv2d(block.in_channels, block.out_channels, 1, bias=False)
    layers.norm = nn.BatchNorm2d(block.out_channels)
    return layers


def _basic(block: Block) -> nn.Sequential:
    layers = nn.Sequential()
    layers.first = conv_norm(block, block.mid_channels)
    layers.last = ConvNorm(block.mid_channels, block.out_channels, block.kernel_size)
    return layers


def _bottleneck(block: Block) -> nn.Sequential:
    mid, kernel_size, act = block.mid_channels, block.kernel_size, block.activation
    layers = nn.Sequential()
    layers.reduce = ConvNorm(block.in_channels, mid, 1, activation=act)
    layers.spatial = ConvNorm(
        mid, mid, kernel_size, block.stride, activation=act, groups=block.groups
    )
    if block.squeeze_excite and not block.spec.gates_output:
        layers.se = SqueezeExcite(mid, block.se_channels, act, block.gate)
    layers.restore = ConvNorm(mid, block.out_channels, 1)
    return layers
