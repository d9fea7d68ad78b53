"""The layers of the blocks of ResNet and its variants: which kernels each of them starts."""

from __future__ import annotations

from hwnas.architecture import kernels
from hwnas.architecture.kernels import Kernel
from hwnas.architecture.layers import Shapes


def basic(block: Shapes) -> list[Kernel]:
    c_in, mid, kernel_size, act = (
        block.in_channels,
        block.mid_channels,
        block.kernel_size,
        block.activation,
    )
    return [
        kernels.conv(c_in, mid, block.in_size, kernel_size, block.stride, activation=act),
        kernels.conv(mid, block.out_channels, block.out_size, kernel_size),
    ]


def bottleneck(block: Shapes) -> list[Kernel]:
    reduce, spatial, restore = bare_bottleneck(block)
    gates = list[Kernel]()
    if block.squeeze_excite:
        gates = kernels.squeeze_excite(block.mid_channels, block.se_channels, block.out_size)
    return [reduce, spatial, *gates, restore]


def output_gate(block: Shapes) -> list[Kernel]:
    """Return the squeeze-excite of the output of the branch."""
    if not block.squeeze_excite:
        return []
    return kernels.squeeze_excite(block.out_channels, block.se_channels, block.out_size)


def bare_bottleneck(block: Shapes) -> list[Kernel]:
    mid, size, act = block.mid_channels, block.in_size, block.activation
    kernel_size, stride = block.kernel_size, block.stride
    return [
        kernels.conv(block.in_channels, mid, size, activation=act),
        kernels.conv(mid, mid, size, kernel_size, stride, block.groups, act),
        kernels.conv(mid, block.out_channels, block.out_size),
    ]


def residual_sum(block: Shapes) -> list[Kernel]:
    """Return the addition of the input, behind a 1x1 convolution where the shapes differ."""
    total = kernels.add(block.out_channels, block.out_size, block.activation)
    if block.residual:
        return [total]
    shortcut = kernels.conv(block.in_channels, block.out_channels, block.in_size, 1, block.stride)
    return [shortcut, total]


def pooled_sum(block: Shapes) -> list[Kernel]:
    """Return the addition of the input behind an average pool of 2x2 and a 1x1 convolution."""
    c_in, c_out, size = block.in_channels, block.out_channels, block.out_size
    return [
        kernels.pool(c_in, block.in_size, size, 2),
        kernels.conv(c_in, c_out, size),
        kernels.add(c_out, size, block.activation),
    ]
