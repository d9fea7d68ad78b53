"""Depthwise convolution with a fast gradient of the weights where the kernel nearly covers the
image.

On such images oneDNN takes 2 to 6 times as long as one matrix product per channel, forward pass
included (tools/bench/search/depthwise.py). On other images, and on devices other than the CPU,
PyTorch's own implementation is used.
"""

from __future__ import annotations

from functools import lru_cache
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.autograd.function import once_differentiable


def depthwise_conv2d(
    x: Tensor, weight: Tensor, stride: int = 1, padding: tuple[int, int] | None = None
) -> Tensor:
    """Convolve each channel of ``[N, C, H, W]`` with its own ``weight[C, 1, k, k]``, k odd.

    ``padding`` is the zeros above and below, left and right; by default ``k // 2``, which keeps
    the size at stride 1.
    """
    half = weight.shape[-1] // 2
    padding = padding or (half, half)
    if weight.requires_grad and _small(x, weight.shape[-1]):
        return _SmallImage.apply(x, weight, stride, padding)  # type: ignore[no-any-return]
    return _forward(x, weight, stride, padding)


class DepthwiseConv2d(nn.Conv2d):
    """`torch.nn.Conv2d` with a group for each channel, without bias."""

    def __init__(self, channels: int, kernel_size: int, stride: int = 1) -> None:
        super().__init__(
            channels, channels, kernel_size, stride, kernel_size // 2, groups=channels, bias=False
        )

    def _conv_forward(self, input: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
        return depthwise_conv2d(input, weight, self.stride[0])


class _SmallImage(torch.autograd.Function):
    """The gradient of tap (i, j) sums ``x[p] * grad[q]`` over the pixels p that it carries to q."""

    @staticmethod
    def forward(
        ctx: Any, x: Tensor, weight: Tensor, stride: int, padding: tuple[int, int]
    ) -> Tensor:
        ctx.save_for_backward(x, weight)
        ctx.stride, ctx.padding = stride, padding
        return _forward(x, weight, stride, padding)

    @staticmethod
    @once_differentiable
    def backward(  # pyright: ignore[reportIncompatibleMethodOverride]
        ctx: Any, grad: Tensor
    ) -> tuple[Tensor | None, Tensor | None, None, None]:
        x, weight = ctx.saved_tensors
        channels, _, kernel_size, _ = weight.shape
        stride, padding = (ctx.stride,) * 2, ctx.padding
        x_grad = None
        if ctx.needs_input_grad[0]:
            [x_grad, _, _] = torch.ops.aten.convolution_backward(
                grad,
                x,
                weight,
                None,
                stride,
                padding,
                (1, 1),
                False,
                (0, 0),
                channels,
                (True, False, False),
            )
        products = torch.bmm(_by_channel(x).transpose(1, 2), _by_channel(grad))  # [C, HW, HW out]
        sizes = tuple(x.shape[-2:]), tuple(grad.shape[-2:])
        taps = _taps(kernel_size, ctx.stride, padding, *sizes)
        sums = weight.new_zeros(channels, kernel_size**2 + 1)
        sums.index_add_(1, taps, products.flatten(1))
        return x_grad, sums[:, :-1].reshape(weight.shape), None, None


def _small(x: Tensor, kernel_size: int) -> bool:
    """Return whether a product of all pairs of pixels takes less time than oneDNN's sums, in
    float32."""
    if x.device.type != "cpu" or torch.is_autocast_enabled("cpu"):
        return False
    height, width = x.shape[-2:]
    pixels = int(height) * int(width)
    return kernel_size > max(height, width) or (kernel_size > 3 and pixels <= 2 * kernel_size**2)


def _forward(x: Tensor, weight: Tensor, stride: int, padding: tuple[int, int]) -> Tensor:
    return F.conv2d(x, weight, None, stride, padding, 1, weight.shape[0])


def _by_channel(images: Tensor) -> Tensor:
    """``[N, C, H, W]``, channels last in memory, to ``[C, N, H*W]``."""
    count, channels, height, width = images.shape
    rows = images.permute(0, 2, 3, 1).reshape(-1, channels)
    return rows.t().contiguous().view(channels, count, height * width)


@lru_cache
def _taps(
    kernel_size: int,
    stride: int,
    padding: tuple[int, int],
    in_size: tuple[int, int],
    out_size: tuple[int, int],
) -> Tensor:
    """Return for each (pixel, output pixel) the flat index of the tap between them, else k*k."""
    places: list[Tensor] = []
    for pixels, outputs, before in zip(in_size, out_size, padding, strict=True):
        # the tap that carries pixel p to output pixel q is p - q * stride + padding
        tap = torch.arange(pixels)[:, None] - torch.arange(outputs) * stride + before
        places.append(torch.where((tap >= 0) & (tap < kernel_size), tap, -1))
    rows, columns = places[0][:, None, :, None], places[1][None, :, None, :]
    taps = torch.where((rows < 0) | (columns < 0), kernel_size**2, rows * kernel_size + columns)
    return taps.flatten()
