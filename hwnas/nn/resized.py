"""Images in another resolution, on the device that they are on."""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor, nn


class Resized(nn.Module):
    """A network that takes images of any size: they are resized to ``size`` pixels first."""

    def __init__(self, network: nn.Module, size: int) -> None:
        super().__init__()
        self.network, self.size = network, size

    def forward(self, images: Tensor) -> Tensor:
        return self.network(resized(images, self.size))


def resized(images: Tensor, size: int) -> Tensor:
    """Return images ``[N, C, H, W]`` of ``size`` x ``size`` pixels, as Pillow resizes them: linear,
    over all pixels that a new one covers."""
    if images.shape[-2:] == (size, size):
        return images
    return F.interpolate(images, (size, size), mode="bilinear", antialias=True)
