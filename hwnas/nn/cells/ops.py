"""The operations of DARTS cells as PyTorch modules.

Liu, Simonyan and Yang, "DARTS: Differentiable Architecture Search", ICLR 2019, arXiv:1806.09055,
section 3.1.1, and its code. The order is ReLU, convolution, batch norm. A separable convolution
applies it twice, with the stride in the first depthwise convolution. In the search net the batch
norms have no gain and shift (``affine=False``).
"""

from __future__ import annotations

from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from hwnas.architecture.architecture import Block
from hwnas.nn.padding import SameMaxPool2d


class ReLUConvNorm(nn.Sequential):
    """ReLU (not in ``conv_bn``), convolution, batch norm."""

    def __init__(self, block: Block, affine: bool = True) -> None:
        super().__init__()
        if block.op == "relu_conv_bn":
            self.act = nn.ReLU()
        self.conv = nn.Conv2d(
            block.in_channels,
            block.out_channels,
            block.kernel_size,
            block.stride,
            block.padding_px,
            bias=False,
        )
        self.norm = nn.BatchNorm2d(block.out_channels, affine=affine)


class DepthwiseSeparable(nn.Sequential):
    """ReLU, depthwise convolution, pointwise convolution, batch norm."""

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        kernel_size: int,
        stride: int,
        dilation: int,
        affine: bool,
    ) -> None:
        super().__init__()
        self.act = nn.ReLU()
        self.depthwise = nn.Conv2d(
            in_channels,
            in_channels,
            kernel_size,
            stride,
            dilation * (kernel_size // 2),
            dilation,
            groups=in_channels,
            bias=False,
        )
        self.pointwise = nn.Conv2d(in_channels, out_channels, 1, bias=False)
        self.norm = nn.BatchNorm2d(out_channels, affine=affine)


class Conv7x1And1x7(nn.Sequential):
    """ReLU, convolution 1x7, convolution 7x1, batch norm; each has the stride along its length."""

    def __init__(self, block: Block, affine: bool = True) -> None:
        super().__init__()
        channels, stride = block.out_channels, block.stride
        self.act = nn.ReLU()
        self.horizontal = nn.Conv2d(
            block.in_channels, channels, (1, 7), (1, stride), (0, 3), bias=False
        )
        self.vertical = nn.Conv2d(channels, channels, (7, 1), (stride, 1), (3, 0), bias=False)
        self.norm = nn.BatchNorm2d(channels, affine=affine)


class StridedPointwise(nn.Conv2d):
    """`torch.nn.Conv2d` of 1x1 with stride 2, without bias.

    The backward pass of PyTorch's (2.14, oneDNN, AVX-512) writes out of bounds with fewer than 8
    input channels in channels-last format. In training the input is therefore subsampled first,
    with the same result.
    """

    def __init__(self, in_channels: int, out_channels: int) -> None:
        super().__init__(in_channels, out_channels, 1, 2, bias=False)

    def _conv_forward(self, input: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
        if self.in_channels < 8 and torch.is_grad_enabled():
            return F.conv2d(input[:, :, ::2, ::2], weight)
        return super()._conv_forward(input, weight, bias)


class FactorizedReduce(nn.Module):
    """Downsample without dropping pixels: two 1x1 convolutions, one of them shifted by a pixel."""

    def __init__(self, block: Block, affine: bool = True) -> None:
        super().__init__()
        half = block.out_channels // 2
        self.act = nn.ReLU()
        self.even = StridedPointwise(block.in_channels, half)
        self.odd = StridedPointwise(block.in_channels, block.out_channels - half)
        self.norm = nn.BatchNorm2d(block.out_channels, affine=affine)

    def forward(self, x: Tensor) -> Tensor:
        x = self.act(x)
        return self.norm(torch.cat((self.even(x), self.odd(x[:, :, 1:, 1:])), dim=1))


class Zero(nn.Module):
    """DARTS's ``none``: zeros, in every second row and column if the stride is 2."""

    def __init__(self, stride: int) -> None:
        super().__init__()
        self.stride = stride

    def forward(self, x: Tensor) -> Tensor:
        height, width = ((x.shape[axis] - 1) // self.stride + 1 for axis in (2, 3))
        return x.new_zeros(x.shape[0], x.shape[1], height, width)


class Add(nn.Module):
    """Sum of ``num_inputs`` inputs; a single one is repeated."""

    def __init__(self, num_inputs: int) -> None:
        super().__init__()
        self.num_inputs = num_inputs

    def forward(self, *inputs: Tensor) -> Tensor:
        first, *others = inputs * self.num_inputs if len(inputs) == 1 else inputs
        for other in others:
            first = first + other
        return first


class Concat(nn.Module):
    """Concatenation of the channels of ``num_inputs`` inputs; a single one is repeated."""

    def __init__(self, num_inputs: int) -> None:
        super().__init__()
        self.num_inputs = num_inputs

    def forward(self, *inputs: Tensor) -> Tensor:
        return torch.cat(inputs * self.num_inputs if len(inputs) == 1 else inputs, dim=1)


def _sep_conv(block: Block, affine: bool) -> nn.Module:
    c_in, c_out, kernel_size = block.in_channels, block.out_channels, block.kernel_size
    return nn.Sequential(
        DepthwiseSeparable(c_in, c_in, kernel_size, block.stride, 1, affine),
        DepthwiseSeparable(c_in, c_out, kernel_size, 1, 1, affine),
    )


def _dil_conv(block: Block, affine: bool) -> nn.Module:
    return DepthwiseSeparable(
        block.in_channels, block.out_channels, block.kernel_size, block.stride, 2, affine
    )


def _max_pool(block: Block, affine: bool) -> nn.Module:
    if block.padding == "same":
        return SameMaxPool2d(block.kernel_size, block.stride)
    return nn.MaxPool2d(block.kernel_size, block.stride, block.padding_px)


def _avg_pool(block: Block, affine: bool) -> nn.Module:
    padding = block.padding_px
    return nn.AvgPool2d(block.kernel_size, block.stride, padding, count_include_pad=False)


def _with_norm(op: Callable[[Block, bool], nn.Module]) -> Callable[[Block, bool], nn.Module]:
    return lambda block, affine: nn.Sequential(
        op(block, affine), nn.BatchNorm2d(block.out_channels, affine=affine)
    )


_OPS: dict[str, Callable[[Block, bool], nn.Module]] = {
    "conv_bn": ReLUConvNorm,
    "relu_conv_bn": ReLUConvNorm,
    "factorized_reduce": FactorizedReduce,
    "sep_conv": _sep_conv,
    "dil_conv": _dil_conv,
    "conv_7x1_1x7": Conv7x1And1x7,
    "max_pool": _max_pool,
    "avg_pool": _avg_pool,
    "max_pool_bn": _with_norm(_max_pool),
    "avg_pool_bn": _with_norm(_avg_pool),
    "identity_bn": _with_norm(lambda block, affine: nn.Identity()),
    "identity": lambda block, affine: nn.Identity(),
    "none": lambda block, affine: Zero(block.stride),
    "add": lambda block, affine: Add(block.num_inputs),
    "concat": lambda block, affine: Concat(block.num_inputs),
}
CELL_OPS = tuple(_OPS)


def cell_op(block: Block, affine: bool = True) -> nn.Module:
    """Return the module that computes one of `CELL_OPS`."""
    return _OPS[block.op](block, affine)
