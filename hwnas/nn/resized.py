"""Resizes images on their device."""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor, nn

from hwnas.architecture.size import Size, axes


class Resized(nn.Module):
    """A network that takes images of any size: they are resized to ``size`` pixels first."""

    def __init__(self, network: nn.Module, size: Size) -> None:
        super().__init__()
        self.network, self.size = network, size

    def forward(self, images: Tensor) -> Tensor:
        return self.network(resized(images, self.size))


def resized(images: Tensor, size: Size) -> Tensor:
    """Return images ``[N, C, H, W]`` of ``size`` pixels, as Pillow resizes them: linear,
    over all pixels that a new one covers."""
    shape = axes(size)
    if images.shape[-2:] == shape:
        return images
    return F.interpolate(images, shape, mode="bilinear", antialias=True)
