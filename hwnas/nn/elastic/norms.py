"""Statistics of batch norms, estimated again from images."""

from __future__ import annotations

from collections.abc import Iterable

import torch
from torch import Tensor, nn


@torch.no_grad()
def reestimate(network: nn.Module, batches: Iterable[Tensor], weight: float = 1.0) -> None:
    """Set all batch norm statistics to ``(1 - weight) * old + weight * new``.

    The new ones are averages over ``batches`` of images ``[N, C, H, W]`` under the current weights.
    From few images, a small ``weight`` keeps a trained network intact: with 100 photos, 1 costs
    EfficientNet-Lite0 a sixth of its decisions and 1/4 none.
    """
    norms = [module for module in network.modules() if isinstance(module, nn.BatchNorm2d)]
    old = [tuple(value.clone() for value in _statistics(norm)) for norm in norms]
    momenta = [norm.momentum for norm in norms]
    for norm in norms:
        norm.reset_running_stats()
    network.train()
    for number, images in enumerate(batches, 1):
        if len(images) > 1:  # a single image has no variance on a map of 1 x 1
            for norm in norms:
                # a plain average over the batches; momentum None reads their number from a GPU
                norm.momentum = 1 / number
            network(images)
    for norm, momentum, values in zip(norms, momenta, old, strict=True):
        norm.momentum = momentum
        for new, value in zip(_statistics(norm), values, strict=True):
            new.lerp_(value, 1 - weight)
    network.eval()


def _statistics(norm: nn.BatchNorm2d) -> tuple[Tensor, Tensor]:
    assert norm.running_mean is not None and norm.running_var is not None
    return norm.running_mean, norm.running_var
