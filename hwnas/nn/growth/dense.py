"""Growth of DenseNet-BC: Cai et al., arXiv:1707.04873, section 3.3.

A layer's features are part of the input of every later layer of its dense block and of the
transition. The channels that a step copies are therefore propagated through all of them: their
batch norms and kernels get the new channels, and the kernels are divided among the copies.
"""

from __future__ import annotations

import msgspec
import torch
from torch import Tensor

from hwnas.nn.growth.transforms import (
    Net,
    Remap,
    add_noise,
    check_larger,
    get_block,
    remap_outputs,
    replace_block,
    shift_block_indices,
    strongest,
    with_block,
    with_inputs,
)
from hwnas.spaces.grown.densenet import REDUCTION


def dense_wider(
    net: Net, place: int, growth: int, generator: torch.Generator, noise: float = 0.0
) -> Net:
    """Widen the dense layer at index ``place`` and its bottleneck to ``growth`` added channels.

    Raises `UsageError` for another block and for a growth that is not larger.
    """
    block = get_block(net, place, ("dense_layer",))
    check_larger(block, place, "a growth of", block.growth, growth)
    wide = msgspec.structs.replace(block, out_channels=block.in_channels + growth)
    mid = Remap.sample(block.mid_channels, wide.mid_channels, generator)
    out = Remap.sample(block.growth, growth, generator)
    weights, own = dict(net.weights), f"blocks.{place}"
    remap_outputs(weights, (f"{own}.bottleneck.conv", f"{own}.grow.norm"), mid.source)
    add_noise(weights, f"{own}.bottleneck.conv.weight", block.mid_channels, noise, generator)
    kernel = mid.inputs(weights[f"{own}.grow.conv.weight"])
    weights[f"{own}.grow.conv.weight"] = kernel[out.source]
    add_noise(weights, f"{own}.grow.conv.weight", block.growth, noise, generator)
    old_inputs = torch.arange(block.in_channels)
    index = torch.cat((old_inputs, block.in_channels + out.source))
    grown = with_block(net, place, wide, weights)
    return propagate_channels(grown, place + 1, index, generator)


def dense_deeper(net: Net, place: int, generator: torch.Generator, noise: float = 0.0) -> Net:
    """Insert a dense layer after that at index ``place``.

    It copies that layer's bottleneck, with zero weights for the features which that layer adds,
    and computes a random choice of these features again, drawn with replacement.
    """
    block = get_block(net, place, ("dense_layer",))
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
    zeros = kernel.new_zeros(len(kernel), growth, 1, 1)
    weights[f"{new}.bottleneck.conv.weight"] = torch.cat((kernel, zeros), dim=1)
    weights[f"{new}.grow.conv.weight"] = weights[f"{new}.grow.conv.weight"][index]
    add_noise(weights, f"{new}.grow.conv.weight", 0, noise, generator)
    index_after = torch.cat((torch.arange(block.out_channels), block.in_channels + index))
    blocks = (*net.blocks[: place + 1], added, *net.blocks[place + 1 :])
    grown = net._replace(blocks=blocks, weights=weights)
    return propagate_channels(grown, place + 2, index_after, generator)


def propagate_channels(net: Net, place: int, index: Tensor, generator: torch.Generator) -> Net:
    """Select the channels ``index`` of the old input of all blocks from ``place`` on.

    The output of a transition has `REDUCTION` times its input channels: with copied filters if
    that is wider, else with the `strongest` filters.
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
        blocks = replace_block(blocks, later, block)
    return net._replace(blocks=blocks, weights=weights)


_INPUT = {
    "dense_layer": ("bottleneck.norm", "bottleneck.conv.weight"),
    "transition": ("norm", "conv.weight"),
    "norm_logits": ("norm", "logits.linear.weight"),
}
"""Names of a block's first batch norm and of its first kernel."""
