"""The layers of blocks: which kernels each of them starts."""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

from hwnas.architecture import kernels
from hwnas.architecture.kernels import Kernel
from hwnas.architecture.piece.shapes import piece_kernels
from hwnas.architecture.size import Size

GROUPS = 2
"""Groups of channels in ``bn_relu_group_conv``."""


class Shapes(Protocol):
    """What a layer depends on: a part of `hwnas.architecture.block.Block`."""

    @property
    def in_channels(self) -> int: ...
    @property
    def out_channels(self) -> int: ...
    @property
    def kernel_size(self) -> int: ...
    @property
    def stride(self) -> int: ...
    @property
    def expand_ratio(self) -> float: ...
    @property
    def in_size(self) -> Size: ...
    @property
    def out_size(self) -> Size: ...
    @property
    def activation(self) -> str: ...
    @property
    def squeeze_excite(self) -> bool: ...
    @property
    def mid_channels(self) -> int: ...
    @property
    def groups(self) -> int: ...
    @property
    def start_kernel_size(self) -> int: ...
    @property
    def growth(self) -> int: ...
    @property
    def se_channels(self) -> int: ...
    @property
    def residual(self) -> bool: ...
    @property
    def num_inputs(self) -> int: ...
    @property
    def piece(self) -> str: ...


Layer = Callable[[Shapes], list[Kernel]]
"""The kernels of one layer of a block, or of several layers."""


def conv(block: Shapes, groups: int = 1, norm: bool = True) -> list[Kernel]:
    return [
        kernels.conv(
            block.in_channels,
            block.out_channels,
            block.in_size,
            block.kernel_size,
            block.stride,
            groups,
            block.activation,
            norm,
            block.out_size,
        )
    ]


def double_conv(block: Shapes) -> list[Kernel]:
    mid, size, act = block.mid_channels, block.kernel_size, block.activation
    return [
        kernels.conv(block.in_channels, mid, block.in_size, size, block.stride, activation=act),
        kernels.conv(mid, block.out_channels, block.out_size, size, activation=act),
    ]


def bare_conv(block: Shapes) -> list[Kernel]:
    return conv(block, norm=False)


def group_conv(block: Shapes) -> list[Kernel]:
    return conv(block, GROUPS, norm=False)


def first_norm(block: Shapes) -> list[Kernel]:
    """Return a batch norm of the input, which no convolution precedes."""
    return [kernels.elementwise(block.in_channels, block.in_size, norm=True)]


def relu(block: Shapes) -> list[Kernel]:
    """Return a ReLU of the input."""
    return [kernels.elementwise(block.in_channels, block.in_size)]


def norm(block: Shapes) -> list[Kernel]:
    """Return a batch norm of the output, which no convolution precedes."""
    return [kernels.elementwise(block.out_channels, block.out_size, norm=True)]


def piece(block: Shapes) -> list[Kernel]:
    return piece_kernels(block.piece, block.in_channels, block.in_size)


def data_copy(block: Shapes) -> list[Kernel]:
    return [kernels.elementwise(block.out_channels, block.out_size)]


def pool(block: Shapes) -> list[Kernel]:
    return [kernels.pool(block.out_channels, block.in_size, block.out_size, block.kernel_size)]


def global_pool(block: Shapes) -> list[Kernel]:
    return [kernels.global_pool(block.in_channels, block.in_size)]


def pool_to_pixel(block: Shapes) -> list[Kernel]:
    """Return a global pool, which is left out where there is a single pixel already."""
    return global_pool(block) if block.in_size != 1 else []


def pool_to_grid(block: Shapes) -> list[Kernel]:
    """Return the pool to ``kernel_size`` pixels in height and width, which is left out where there
    are as many already."""
    grid = block.kernel_size
    if grid == 1:
        return pool_to_pixel(block)
    pooled = kernels.pool(block.in_channels, block.in_size, grid, 1)
    return [pooled] if block.in_size != grid else []


def conv_with_bias(block: Shapes) -> list[Kernel]:
    """Return a 1x1 convolution of all pixels, with a bias."""
    c_in, c_out, size = block.in_channels, block.out_channels, block.in_size
    conv = kernels.conv(c_in, c_out, size, activation=block.activation, norm=False)
    return [conv._replace(norm_params=c_out)]


def pool_outputs(block: Shapes) -> list[Kernel]:
    return [kernels.global_pool(block.out_channels, block.in_size)]


def pointwise(block: Shapes, bias: bool = False) -> list[Kernel]:
    """Return a linear layer of all ``kernel_size`` squared pixels of an image."""
    inputs, act = block.in_channels * block.kernel_size**2, block.activation
    linear = kernels.conv(inputs, block.out_channels, 1, activation=act, norm=False)
    return [linear._replace(norm_params=block.out_channels if bias else 0)]


def linear(block: Shapes) -> list[Kernel]:
    return pointwise(block, bias=True)


def add(block: Shapes) -> list[Kernel]:
    return [kernels.add(block.out_channels, block.out_size)] * (block.num_inputs - 1)


def shortcut(block: Shapes) -> list[Kernel]:
    return [kernels.add(block.out_channels, block.out_size)] if block.residual else []


def mbconv(block: Shapes) -> list[Kernel]:
    mid, act, size = block.mid_channels, block.activation, block.in_size
    parts: list[Kernel] = []
    if block.expand_ratio != 1:
        parts.append(kernels.conv(block.in_channels, mid, size, activation=act))
    parts.append(kernels.depthwise_conv(mid, size, block.kernel_size, block.stride, act))
    if block.squeeze_excite:
        parts += kernels.squeeze_excite(mid, block.se_channels, block.out_size)
    return [*parts, kernels.conv(mid, block.out_channels, block.out_size)]


def convnext(block: Shapes) -> list[Kernel]:
    c_in, mid, size = block.in_channels, block.mid_channels, block.in_size
    return [
        kernels.depthwise_conv(c_in, size, block.kernel_size, block.stride),
        kernels.elementwise(c_in, block.out_size, norm=True),
        kernels.conv(c_in, mid, block.out_size, activation=block.activation),
        kernels.conv(mid, block.out_channels, block.out_size),
    ]


def uib(block: Shapes) -> list[Kernel]:
    c_in, mid, act, size = block.in_channels, block.mid_channels, block.activation, block.in_size
    is_last = block.kernel_size == 1
    parts: list[Kernel] = []
    if block.start_kernel_size:
        stride = block.stride if is_last else 1
        parts.append(kernels.depthwise_conv(c_in, size, block.start_kernel_size, stride))
        size = block.out_size if is_last else size
    parts.append(kernels.conv(c_in, mid, size, activation=act))
    if not is_last:
        parts.append(kernels.depthwise_conv(mid, size, block.kernel_size, block.stride, act))
    if block.squeeze_excite:
        parts += kernels.squeeze_excite(mid, block.se_channels, block.out_size)
    return [*parts, kernels.conv(mid, block.out_channels, block.out_size)]


def depthwise_separable(block: Shapes) -> list[Kernel]:
    c_in, act, size = block.in_channels, block.activation, block.in_size
    parts = [kernels.depthwise_conv(c_in, size, block.kernel_size, block.stride, act)]
    if block.squeeze_excite:
        parts += kernels.squeeze_excite(c_in, block.se_channels, block.out_size)
    return [*parts, kernels.conv(c_in, block.out_channels, block.out_size, activation=act)]


def shuffle_unit(block: Shapes) -> list[Kernel]:
    """Return the convolutions of one or two branches of half the output each."""
    half, mid, act, size = (
        block.out_channels // 2,
        block.mid_channels,
        block.activation,
        block.in_size,
    )
    c_in, parts = block.in_channels // 2, list[Kernel]()
    if block.stride > 1:
        c_in = block.in_channels
        parts.append(kernels.depthwise_conv(c_in, size, block.kernel_size, block.stride))
        parts.append(kernels.conv(c_in, half, block.out_size, activation=act))
    return [
        *parts,
        kernels.conv(c_in, mid, size, activation=act),
        kernels.depthwise_conv(mid, size, block.kernel_size, block.stride),
        kernels.conv(mid, half, block.out_size, activation=act),
    ]


def fused_mbconv(block: Shapes) -> list[Kernel]:
    if block.expand_ratio == 1:
        return conv(block)
    c_in, mid, act = block.in_channels, block.mid_channels, block.activation
    return [
        kernels.conv(c_in, mid, block.in_size, block.kernel_size, block.stride, activation=act),
        kernels.conv(mid, block.out_channels, block.out_size),
    ]


def separable(
    block: Shapes, stride: int, in_size: Size, out_channels: int, norm: bool = True
) -> list[Kernel]:
    """Return a depthwise and a 1x1 convolution."""
    c_in, act = block.in_channels, block.activation
    return [
        kernels.depthwise_conv(c_in, in_size, block.kernel_size, stride, act, norm=False),
        kernels.conv(c_in, out_channels, block.out_size, activation=act, norm=norm),
    ]


def sep_conv(block: Shapes) -> list[Kernel]:
    return [
        *separable(block, block.stride, block.in_size, block.in_channels),
        *separable(block, 1, block.out_size, block.out_channels),
    ]


def dil_conv(block: Shapes) -> list[Kernel]:
    return separable(block, block.stride, block.in_size, block.out_channels)


def bare_separable(block: Shapes) -> list[Kernel]:
    return separable(block, block.stride, block.in_size, block.out_channels, norm=False)


def conv_7x1_1x7(block: Shapes) -> list[Kernel]:
    return kernels.conv_7x1_1x7(
        block.in_channels, block.out_channels, block.in_size, block.out_size
    )


def half_convs(block: Shapes) -> list[Kernel]:
    """Return two 1x1 convolutions, each to half of the channels."""
    half = block.out_channels // 2
    return [
        kernels.conv(block.in_channels, c_out, block.in_size, 1, block.stride, 1, block.activation)
        for c_out in (half, block.out_channels - half)
    ]


def dense_bottleneck(block: Shapes) -> list[Kernel]:
    mid, size, act = block.mid_channels, block.in_size, block.activation
    return [
        kernels.conv(block.in_channels, mid, size, activation=act),
        kernels.conv(mid, block.growth, size, block.kernel_size, activation=act, norm=False),
    ]


def narrowing(block: Shapes) -> list[Kernel]:
    """Return a 1x1 convolution at the size of the input."""
    c_out, act = block.out_channels, block.activation
    return [kernels.conv(block.in_channels, c_out, block.in_size, activation=act, norm=False)]
