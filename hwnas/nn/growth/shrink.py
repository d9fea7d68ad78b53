"""Shrinking of trained networks: fewer filters or layers.

The opposite of `hwnas.nn.growth.chain` and `hwnas.nn.growth.dense`, but not function preserving:
the smaller network is only near the old function, and is trained with the old network as the
teacher (`hwnas.training.loop.train`). The filters that remain are the `strongest`.
"""

from __future__ import annotations

import msgspec
import torch
from torch import Tensor

from hwnas.architecture.architecture import Block
from hwnas.errors import UsageError
from hwnas.nn.elastic.channels import INNER, select_inner, strongest_gates
from hwnas.nn.growth.chain import POOL_OPS, input_kernel
from hwnas.nn.growth.dense import propagate_channels
from hwnas.nn.growth.transforms import (
    Net,
    get_block,
    move_block,
    remap_outputs,
    replace_block,
    shift_block_indices,
    strongest,
    with_block,
    with_inputs,
)

LAYER_OPS = ("conv", "dense_layer")


def narrower(net: Net, place: int, width: int) -> Net:
    """Reduce the convolution or the dense layer at index ``place`` to ``width`` new channels.

    Raises `UsageError` for a width that is not smaller.
    """
    block = get_block(net, place, LAYER_OPS)
    now = block.growth if block.op == "dense_layer" else block.out_channels
    if not 0 < width < now:
        raise UsageError(
            f"block {place} ({block.key}) has a width of {now}: {width} is not smaller"
        )
    weights, own = dict(net.weights), f"blocks.{place}"
    if block.op == "conv":
        channels = strongest(weights[f"{own}.conv.weight"], width)
        remap_outputs(weights, (f"{own}.conv", f"{own}.norm"), channels)
        thin = msgspec.structs.replace(block, out_channels=width)
        return _select_inputs(with_block(net, place, thin, weights), place + 1, channels)
    thin = msgspec.structs.replace(block, out_channels=block.in_channels + width)
    mid = strongest(weights[f"{own}.bottleneck.conv.weight"], thin.mid_channels)
    channels = strongest(weights[f"{own}.grow.conv.weight"], width)
    remap_outputs(weights, (f"{own}.bottleneck.conv", f"{own}.grow.norm"), mid)
    weights[f"{own}.grow.conv.weight"] = weights[f"{own}.grow.conv.weight"][channels][:, mid]
    index = torch.cat((torch.arange(block.in_channels), block.in_channels + channels))
    left = with_block(net, place, thin, weights)
    return propagate_channels(left, place + 1, index, torch.Generator())


def shallower(net: Net, place: int) -> Net:
    """Remove the convolution or the dense layer at index ``place``.

    Its consumer then gets its input. After a convolution only the channels that both have keep
    their weights; further ones get zeros. Raises `UsageError` for a layer with a stride, because
    no other layer would downsample in its place.
    """
    block = get_block(net, place, LAYER_OPS)
    if block.stride != 1:
        raise UsageError(f"block {place} ({block.key}) has a stride, so it cannot be removed")
    own = f"blocks.{place}."
    others = {name: value for name, value in net.weights.items() if not name.startswith(own)}
    left = net._replace(
        blocks=(*net.blocks[:place], *net.blocks[place + 1 :]),
        weights=shift_block_indices(others, place, -1),
    )
    if block.op == "dense_layer":
        return propagate_channels(left, place, torch.arange(block.in_channels), torch.Generator())
    common = torch.arange(min(block.in_channels, block.out_channels))
    return _select_inputs(left, place, common, block.in_channels)


def narrower_expansion(net: Net, place: int, expand_ratio: float) -> Net:
    """Reduce the expansion of the MBConv at index ``place``.

    The inner channels with the largest projection weights remain, the order of Once-for-all (Cai
    et al., ICLR 2020, arXiv:1908.09791, section 3.3). Raises `UsageError` for a ratio that is not
    smaller, or not above 1.
    """
    block = get_block(net, place, ("mbconv",))
    if not 1 < expand_ratio < block.expand_ratio:
        raise UsageError(
            f"block {place} ({block.key}) expands {block.expand_ratio:g} times: {expand_ratio:g} "
            "is not smaller, or leaves no expansion layer"
        )
    thin = msgspec.structs.replace(block, expand_ratio=expand_ratio)
    weights, own = dict(net.weights), f"blocks.{place}.layers"
    projection = weights[f"{own}.project.conv.weight"].transpose(0, 1)
    channels = strongest(projection, thin.mid_channels)
    gates = strongest_gates(weights, own, thin.se_channels)
    select_inner(weights, own, INNER["mbconv"][0], channels, gates)
    return with_block(net, place, thin, weights)


def skip_block(net: Net, place: int, last: int) -> Net:
    """Replace block ``place`` by its shortcut, and move this to index ``last``.

    Raises `UsageError` for a block without a shortcut.
    """
    block = get_block(net, place, ("mbconv", "fused_mbconv"))
    if not block.residual:
        raise UsageError(f"block {place} ({block.key}) has no shortcut, so it cannot be removed")
    own = f"blocks.{place}."
    others = {name: value for name, value in net.weights.items() if not name.startswith(own)}
    skip = Block("identity", block.in_channels, block.out_channels, 1, 1, 1, block.in_size)
    return move_block(with_block(net, place, skip, others), place, last)


def _select_inputs(net: Net, place: int, index: Tensor, channels: int | None = None) -> Net:
    """Select the channels ``index`` of the old input of the blocks from ``place`` on.

    Up to ``channels``, further channels are appended with zero weights.
    """
    channels = len(index) if channels is None else channels
    blocks: tuple[Block, ...] = net.blocks
    weights = dict(net.weights)
    for later in range(place, len(blocks)):
        block = with_inputs(blocks[later], channels)
        blocks = replace_block(blocks, later, block)
        if block.op not in POOL_OPS:
            name = input_kernel(block, later)
            kernel = weights[name][:, index]
            zeros = kernel.new_zeros(len(kernel), channels - len(index), *kernel.shape[2:])
            weights[name] = torch.cat((kernel, zeros), dim=1)
            break
    return net._replace(blocks=blocks, weights=weights)
