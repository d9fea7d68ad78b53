"""Chains with random weights and statistics, as a training could leave them."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from hwnas.architecture.architecture import Block
from hwnas.nn.elastic.norms import reestimate
from hwnas.nn.network import Network


@torch.no_grad()
def trained_network(blocks: tuple[Block, ...], seed: int = 0) -> Network:
    """Return a network in float64 and evaluation mode, whose batch norms are near its statistics.

    The first block takes images ``[N, 3, H, W]``.
    """
    torch.manual_seed(seed)
    network = Network(blocks).double().requires_grad_(False)
    norms = [module for module in network.modules() if isinstance(module, nn.BatchNorm2d)]
    for norm in norms:
        nn.init.uniform_(norm.weight, 0.5, 1.5)
        nn.init.normal_(norm.bias, std=0.3)
    reestimate(network, [smooth_images(32, blocks[0].in_shape[1], seed=2)])
    for norm in norms:
        assert norm.running_mean is not None and norm.running_var is not None
        deviation = norm.running_var.sqrt()
        norm.running_mean += 0.1 * deviation * torch.randn_like(deviation)
        norm.running_var *= torch.empty_like(deviation).uniform_(0.8, 1.25)
    return network


def smooth_images(count: int, size: int, seed: int = 1) -> Tensor:
    """Return images ``[count, 3, size, size]``, float64, whose neighbouring pixels correlate."""
    generator = torch.Generator().manual_seed(seed)
    noise = torch.randn(count, 3, size, size, generator=generator, dtype=torch.float64)
    return nn.functional.avg_pool2d(noise, 7, 1, 3) * 5
