"""Building a network from an architecture, to be trained, exported or measured."""

from __future__ import annotations

import math

import torch
from torch import nn

from hwnas.architecture.architecture import NORM_EPS, Architecture, Block
from hwnas.architecture.graph import Inputs
from hwnas.nn.blocks.layers import ConvNorm
from hwnas.nn.blocks.table import Branched
from hwnas.nn.network import Network, WiredNetwork

__all__ = ["Network", "WiredNetwork", "build", "initialise", "untrained"]


def build(architecture: Architecture, dropout: float = 0.0) -> Network:
    """Build the network of ``architecture`` with fresh weights from torch's global generator.

    Chains start as in the ProxylessNAS code, cells as in DARTS's: with PyTorch's own weights. On
    the device ``meta`` there are shapes alone.
    """
    network = _network(architecture.blocks, architecture.inputs, dropout, architecture.norm_eps)
    if not architecture.inputs and torch.get_default_device().type != "meta":
        initialise(network)
    return network


def untrained(blocks: tuple[Block, ...], inputs: Inputs = ()) -> Network:
    """Return a network for timing, with weights that are always the same, so that its file is
    too."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        return _network(blocks, inputs)


def _network(
    blocks: tuple[Block, ...],
    inputs: Inputs,
    dropout: float = 0.0,
    norm_eps: float = NORM_EPS,
) -> Network:
    if inputs:
        return WiredNetwork(blocks, inputs, dropout, norm_eps)
    return Network(blocks, dropout, norm_eps)


def initialise(network: nn.Module) -> None:
    """Set weights as in the ProxylessNAS code (section 1.3), residual branches starting at zero.

    Convolutions N(0, sqrt(2 / (k*k*out))), the linear layer uniform in +-1/sqrt(in). A batch norm
    that ends a residual branch starts with gain 0, so that the block starts as the identity (Goyal
    et al. 2017, arXiv:1706.02677): short trainings gain from it. Where an activation follows (fused
    MBConv of expansion 1), the gain stays 1: ReLU has no gradient at 0, so the block could never
    learn.
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
        if isinstance(module, Branched) and module.residual:
            last = module.layers[-1]
            if isinstance(last, ConvNorm) and not hasattr(last, "act"):
                nn.init.zeros_(last.norm.weight)
