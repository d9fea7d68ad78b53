"""Growing DenseNet-BC: Cai et al., arXiv:1707.04873, section 3.3.

A layer's features are part of the input of every later layer of its dense block, and of the
transition. So copies that a step makes are followed through all of them: their batch norms and
kernels get the new channels, their kernels divided among the copies.
"""

from __future__ import annotations

import msgspec
import torch
from torch import Tensor

from hwnas.nn.growth.transforms import (
    Net,
    Remap,
    check_grows,
    disturb,
    found_block,
    remap_outputs,
    replaced,
    shift_block_indices,
    strongest,
    with_inputs,
)
from hwnas.spaces.grown.densenet import REDUCTION


def dense_wider(
    net: Net, place: int, growth: int, generator: torch.Generator, noise: float = 0.0
) -> Net:
    """Return the network whose dense layer ``place`` adds ``growth`` channels.

    The bottleneck widens with it. Raises `UsageError` for what is not legal.
    """
    block = found_block(net, place, ("dense_layer",))
    check_grows(block, place, "a growth of", block.growth, growth)
    wide = msgspec.structs.replace(block, out_channels=block.in_channels + growth)
    mid = Remap.sample(block.mid_channels, wide.mid_channels, generator)
    out = Remap.sample(block.growth, growth, generator)
    weights, own = dict(net.weights), f"blocks.{place}"
    remap_outputs(weights, (f"{own}.bottleneck.conv", f"{own}.grow.norm"), mid.source)
    disturb(weights, f"{own}.bottleneck.conv.weight", block.mid_channels, noise, generator)
    kernel = mid.inputs(weights[f"{own}.grow.conv.weight"])
    weights[f"{own}.grow.conv.weight"] = kernel[out.source]
    disturb(weights, f"{own}.grow.conv.weight", block.growth, noise, generator)
    taken = torch.arange(block.in_channels)
    index = torch.cat((taken, block.in_channels + out.source))
    grown = Net(replaced(net.blocks, place, wide), weights)
    return follow(grown, place + 1, index, generator)


def dense_deeper(net: Net, place: int, generator: torch.Generator, noise: float = 0.0) -> Net:
    """Return the network with one more layer behind the dense layer ``place``.

    It copies that layer's bottleneck, blind for the features that layer adds, and makes a random
    choice (with replacement) of that layer's features again.
    """
    block = found_block(net, place, ("dense_layer",))
    growth = block.growth
    added = with_inputs(block, block.out_channels)
    index = torch.randint(growth, (growth,), generator=generator)
    weights = shift_block_indices(net.weights, place + 1)
    old, new = f"blocks.{place}", f"blocks.{place + 1}"
    for name, value in net.weights.items():
        if name.startswith(f"{old}."):
            weights[new + name.removeprefix(old)] = value
    fresh = {"weight": 1.0, "bias": 0.0, "running_mean": 0.0, "running_var": 1.0}
    for name, value in fresh.items():
        norm = weights[f"{new}.bottleneck.norm.{name}"]
        weights[f"{new}.bottleneck.norm.{name}"] = torch.cat(
            (norm, norm.new_full((growth,), value))
        )
    kernel = weights[f"{new}.bottleneck.conv.weight"]
    blind = kernel.new_zeros(len(kernel), growth, 1, 1)
    weights[f"{new}.bottleneck.conv.weight"] = torch.cat((kernel, blind), dim=1)
    weights[f"{new}.grow.conv.weight"] = weights[f"{new}.grow.conv.weight"][index]
    disturb(weights, f"{new}.grow.conv.weight", 0, noise, generator)
    behind = torch.cat((torch.arange(block.out_channels), block.in_channels + index))
    grown = Net((*net.blocks[: place + 1], added, *net.blocks[place + 1 :]), weights)
    return follow(grown, place + 2, behind, generator)


def follow(net: Net, place: int, index: Tensor, generator: torch.Generator) -> Net:
    """Give all blocks from ``place`` on the channels ``index`` of the features they took.

    Transitions get as many channels as `REDUCTION` leaves of their input: copies where it is wider,
    the strongest filters (`strongest`) where channels were left out.
    """
    blocks, weights = net.blocks, dict(net.weights)
    for later in range(place, len(blocks)):
        block, own = blocks[later], f"blocks.{later}"
        remap = Remap.of(index)
        prefix, kernel = _INPUT[block.op]
        remap_outputs(weights, (f"{own}.{prefix}",), index)
        weights[f"{own}.{kernel}"] = remap.inputs(weights[f"{own}.{kernel}"])
        block = with_inputs(block, len(index))
        if block.op == "dense_layer":
            index = torch.cat((index, blocks[later].in_channels + torch.arange(block.growth)))
        elif block.op == "transition":
            old, width = block.out_channels, int(REDUCTION * len(index))
            if width < old and len(index) < blocks[later].in_channels:
                out = strongest(weights[f"{own}.conv.weight"], width)
            else:
                width = max(old, width)
                out = Remap.sample(old, width, generator).source
            remap_outputs(weights, (f"{own}.conv",), out)
            block, index = msgspec.structs.replace(block, out_channels=width), out
        blocks = replaced(blocks, later, block)
    return Net(blocks, weights)


_INPUT = {
    "dense_layer": ("bottleneck.norm", "bottleneck.conv.weight"),
    "transition": ("norm", "conv.weight"),
    "norm_logits": ("norm", "logits.linear.weight"),
}
"""Names of the batch norm and of the kernel that take a block's input."""
