"""Input patches of depthwise convolutions of any padding."""

from __future__ import annotations

import torch
import torch.nn.functional as F
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
    values, size = _pixel_values(x), taps.shape[1] + 1
    zero, last = values.shape[1] - 2, values.shape[1] - 1
    gram = x.new_zeros(x.shape[1], size, size, dtype=torch.float64)
    chunk = max(1, PATCH_BYTES // (values.element_size() * size * x.shape[1]))
    for part in pixels.to(x.device).split(chunk):
        image, pixel = part // len(taps), taps[part % len(taps)]
        index = torch.where(pixel < 0, zero, pixel + image[:, None] * x[0, 0].numel())
        index = F.pad(index, (0, 1), value=last).flatten()
        patches = values.index_select(1, index).unflatten(1, (-1, size))  # [C, n, k*k + 1]
        gram += patches.transpose(1, 2) @ patches
    return gram


def tap_pixels(conv: DepthwiseConv2d, size: tuple[int, int]) -> Tensor:
    """Return the input pixel of each tap at each output pixel, int64 ``[H' * W', k*k]``.

    -1 is padding. The convolution itself determines them: its image is the numbers 1 to ``H * W``,
    and each of its kernels copies one tap.
    """
    taps = conv.kernel_size[0] * conv.kernel_size[1]
    device = conv.weight.device
    image = torch.arange(1.0, size[0] * size[1] + 1, dtype=torch.float64, device=device)
    copies = torch.eye(taps, dtype=torch.float64, device=device).view(taps, 1, *conv.kernel_size)
    # without the hooks of the module: the statistics are collected in one
    numbers = conv._conv_forward(image.view(1, 1, *size).expand(1, taps, *size), copies, None)
    return numbers[0].flatten(1).T.long() - 1


def _pixel_values(x: Tensor) -> Tensor:
    """Return the pixels of ``x [N, C, H, W]``, a zero and a 1, ``[C, N * H * W + 2]``."""
    constants = x.new_tensor([0.0, 1.0]).expand(x.shape[1], 2)
    return torch.cat((x.transpose(0, 1).flatten(1), constants), dim=1)
