"""A network from an architecture: what is trained, exported and measured."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

from hwnas.architecture import Architecture, Block
from hwnas.nn.blocks import ConvNorm, FusedMBConv, Logits, MBConv, block_module


class Network(nn.Module):
    """Blocks in a row: images ``[N, C, H, W]`` to logits ``[N, classes]``."""

    def __init__(self, blocks: tuple[Block, ...], dropout: float = 0.0) -> None:
        super().__init__()
        self.blocks = nn.Sequential(*(block_module(block) for block in blocks))
        for module in self.modules():
            if isinstance(module, Logits):
                module.dropout.p = dropout

    def forward(self, images: Tensor) -> Tensor:
        return self.blocks(images)


def build(architecture: Architecture, dropout: float = 0.0) -> Network:
    """Build the network of ``architecture`` with fresh weights from torch's global generator."""
    network = Network(architecture.blocks, dropout)
    initialise(network)
    return network


def untrained(blocks: tuple[Block, ...]) -> Network:
    """Return a network to be timed: the same weights, so the same file, whatever ran before."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        return Network(blocks)


def initialise(network: nn.Module) -> None:
    """Set weights as in the ProxylessNAS code (section 1.3), residual branches starting at zero.

    Convolutions N(0, sqrt(2 / (k*k*out))), the linear layer uniform in +-1/sqrt(in). A batch norm
    that ends a residual branch starts with gain 0, so that the block starts as the identity
    (Goyal et al. 2017, arXiv:1706.02677): short trainings gain from it. Where an activation
    follows (fused MBConv of expansion 1), the gain stays 1: ReLU has no gradient at 0, and the
    block would remain the identity for ever.
    """
    for module in network.modules():
        if isinstance(module, nn.Conv2d):
            fan_out = module.kernel_size[0] * module.kernel_size[1] * module.out_channels
            nn.init.normal_(module.weight, std=math.sqrt(2 / fan_out))
            if module.bias is not None:
                nn.init.zeros_(module.bias)
        elif isinstance(module, nn.Linear):
            bound = 1 / math.sqrt(module.in_features)
            nn.init.uniform_(module.weight, -bound, bound)
            nn.init.zeros_(module.bias)
    for module in network.modules():
        if isinstance(module, MBConv | FusedMBConv) and module.residual:
            last = module.layers[-1]
            if isinstance(last, ConvNorm) and not hasattr(last, "act"):
                nn.init.zeros_(last.norm.weight)
