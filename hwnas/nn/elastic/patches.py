"""Patches of depthwise convolutions, whatever their padding."""

from __future__ import annotations

import torch
from torch import Tensor

from hwnas.nn.depthwise import DepthwiseConv2d

PATCH_BYTES = 32 * 2**20
"""Memory of the patches that `patch_gram` holds at a time."""


def patch_gram(conv: DepthwiseConv2d, x: Tensor, pixels: Tensor) -> Tensor:
    """Return the sum of ``[patch; 1] [patch; 1]^T`` of each channel, ``[C, k*k + 1, k*k + 1]``.

    Over the output ``pixels [n]`` of the depthwise ``conv`` of ``x [N, C, H, W]``, numbered through
    all images; float64.
    """
    taps = tap_pixels(conv, (x.shape[2], x.shape[3]))
    rows = _pixel_rows(x)
    size = taps.shape[1] + 1
    gram = x.new_zeros(x.shape[1], size, size, dtype=torch.float64)
    chunk = max(1, PATCH_BYTES // (rows.element_size() * size * x.shape[1]))
    for part in pixels.to(x.device).split(chunk):
        image, pixel = part // len(taps), part % len(taps)
        index = taps[pixel] + image[:, None] * (x.shape[2] * x.shape[3])
        patches = rows[torch.where(taps[pixel] < 0, len(rows) - 1, index)]  # [n, k*k, C]
        ones = patches.new_ones(len(part), 1, x.shape[1])
        patches = torch.cat((patches, ones), dim=1).permute(2, 1, 0).contiguous()
        gram += patches @ patches.transpose(1, 2)
    return gram


def tap_pixels(conv: DepthwiseConv2d, size: tuple[int, int]) -> Tensor:
    """Return the input pixel of each tap at each output pixel, int64 ``[H' * W', k*k]``.

    -1 is padding. The convolution itself numbers them: it is given the numbers 1 to ``H * W`` as
    the image, and kernels that copy one tap each.
    """
    taps = conv.kernel_size[0] * conv.kernel_size[1]
    device = conv.weight.device
    image = torch.arange(1.0, size[0] * size[1] + 1, dtype=torch.float64, device=device)
    copies = torch.eye(taps, dtype=torch.float64, device=device).view(taps, 1, *conv.kernel_size)
    # without the hooks of the module: the statistics are collected in one
    numbers = conv._conv_forward(image.view(1, 1, *size).expand(1, taps, *size), copies, None)
    return numbers[0].flatten(1).T.long() - 1


def _pixel_rows(x: Tensor) -> Tensor:
    """Return the pixels of ``x [N, C, H, W]`` and zeros for padding, ``[N * H * W + 1, C]``."""
    rows = x.permute(0, 2, 3, 1).reshape(-1, x.shape[1])
    return torch.cat((rows, rows.new_zeros(1, x.shape[1])))
