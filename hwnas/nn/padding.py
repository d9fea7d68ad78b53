"""Convolutions and max pools with TensorFlow's padding "same".

Where the pixels before and after differ (an even size with stride 2), PyTorch needs a padded copy
of its input, or a larger kernel. Compiled files have neither.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch.nn.functional as F
from torch import Tensor, nn

from hwnas.architecture.block import same_padding
from hwnas.nn.depthwise import DepthwiseConv2d, depthwise_conv2d

Sides = tuple[tuple[int, int], tuple[int, int]]


class SameConv2d(nn.Conv2d):
    """`torch.nn.Conv2d` with padding "same" of a square kernel."""

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        kernel_size: int,
        stride: int,
        groups: int = 1,
        bias: bool = False,
    ) -> None:
        super().__init__(in_channels, out_channels, kernel_size, stride, groups=groups, bias=bias)

    def _conv_forward(self, input: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
        image, padding = pad_same(input, self.kernel_size[0], self.stride[0])
        return F.conv2d(image, weight, bias, self.stride, padding, groups=self.groups)


class SameDepthwiseConv2d(DepthwiseConv2d):
    """`DepthwiseConv2d` with padding "same"."""

    def _conv_forward(self, input: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
        return same_depthwise_conv2d(input, weight, self.stride[0])


class SameMaxPool2d(nn.MaxPool2d):
    """`torch.nn.MaxPool2d` with padding "same"."""

    def __init__(self, kernel_size: int, stride: int) -> None:
        super().__init__(kernel_size, stride)
        self.window = kernel_size, stride

    def forward(self, input: Tensor) -> Tensor:
        image, padding = pad_same(input, *self.window, float("-inf"))
        return F.max_pool2d(image, self.kernel_size, self.stride, padding)


def same_depthwise_conv2d(x: Tensor, weight: Tensor, stride: int) -> Tensor:
    """Convolve as `depthwise_conv2d`, with padding "same".

    On the CPU the kernel gets a row and a column of zeros, which is two to five times as fast in
    evaluation as a padded copy of the images.
    """
    kernel_size = weight.shape[-1]
    (top, bottom), (left, right) = same_sides(x.shape, kernel_size, stride)
    if (top, left) != (bottom, right) and x.device.type == "cpu":
        return depthwise_conv2d(x, F.pad(weight, (1, 0, 1, 0)), stride, (top + 1, left + 1))
    image, padding = pad_same(x, kernel_size, stride)
    return depthwise_conv2d(image, weight, stride, padding)


def pad_same(
    x: Tensor, kernel_size: int, stride: int, value: float = 0.0
) -> tuple[Tensor, tuple[int, int]]:
    """Return images and the symmetric padding (height, width) with which they are padded "same".

    The images are padded with ``value`` where no symmetric padding is.
    """
    (top, bottom), (left, right) = same_sides(x.shape, kernel_size, stride)
    if top == bottom and left == right:
        return x, (top, left)
    return F.pad(x, (left, right, top, bottom), value=value), (0, 0)


def same_sides(shape: Sequence[Any], kernel_size: int, stride: int) -> Sides:
    """Return the padding (top, bottom), (left, right) of images of ``shape`` ``[N, C, H, W]``."""
    height, width = shape[2:]
    rows, columns = (same_padding(int(size), kernel_size, stride) for size in (height, width))
    return rows, columns
