"""Shrinking trained networks: fewer filters or layers.

The opposite of `hwnas.nn.growth.chain` and `hwnas.nn.growth.dense`, and not function preserving:
what remains begins near the old function, and is to be trained with it as the teacher
(`hwnas.training.loop.train`). The filters that remain are the `strongest`.
"""

from __future__ import annotations

import msgspec
import torch
from torch import Tensor

from hwnas.architecture.architecture import Block
from hwnas.errors import UsageError
from hwnas.nn.growth.chain import POOLS, taking
from hwnas.nn.growth.dense import follow
from hwnas.nn.growth.transforms import (
    Net,
    found_block,
    moved_block,
    remap_outputs,
    replaced,
    shift_block_indices,
    strongest,
    with_inputs,
)

LAYERS = ("conv", "dense_layer")


def narrower(net: Net, place: int, width: int) -> Net:
    """Return the network with ``width`` filters in the convolution ``place``, or as many channels
    added by the dense layer. Raises `UsageError` for a width that is not smaller."""
    block = found_block(net, place, LAYERS)
    now = block.growth if block.op == "dense_layer" else block.out_channels
    if not 0 < width < now:
        raise UsageError(f"block {place} ({block.key}) has a width of {now}: {width} is not less")
    weights, own = dict(net.weights), f"blocks.{place}"
    if block.op == "conv":
        channels = strongest(weights[f"{own}.conv.weight"], width)
        remap_outputs(weights, (f"{own}.conv", f"{own}.norm"), channels)
        thin = msgspec.structs.replace(block, out_channels=width)
        return _given(Net(replaced(net.blocks, place, thin), weights), place + 1, channels)
    thin = msgspec.structs.replace(block, out_channels=block.in_channels + width)
    mid = strongest(weights[f"{own}.bottleneck.conv.weight"], thin.mid_channels)
    channels = strongest(weights[f"{own}.grow.conv.weight"], width)
    remap_outputs(weights, (f"{own}.bottleneck.conv", f"{own}.grow.norm"), mid)
    weights[f"{own}.grow.conv.weight"] = weights[f"{own}.grow.conv.weight"][channels][:, mid]
    index = torch.cat((torch.arange(block.in_channels), block.in_channels + channels))
    left = Net(replaced(net.blocks, place, thin), weights)
    return follow(left, place + 1, index, torch.Generator())


def shallower(net: Net, place: int) -> Net:
    """Return the network without the convolution or the dense layer ``place``.

    What took its output takes its input: of a convolution the first channels, as far as there are
    as many. Raises `UsageError` for a stride, which no other layer would make up for.
    """
    block = found_block(net, place, LAYERS)
    if block.stride != 1:
        raise UsageError(f"block {place} ({block.key}) has a stride: it cannot be left out")
    own = f"blocks.{place}."
    others = {name: value for name, value in net.weights.items() if not name.startswith(own)}
    left = Net(
        (*net.blocks[:place], *net.blocks[place + 1 :]), shift_block_indices(others, place, -1)
    )
    if block.op == "dense_layer":
        return follow(left, place, torch.arange(block.in_channels), torch.Generator())
    common = torch.arange(min(block.in_channels, block.out_channels))
    return _given(left, place, common, block.in_channels)


def narrower_expansion(net: Net, place: int, expand_ratio: float) -> Net:
    """Return the network with a smaller expansion in the MBConv ``place``.

    The inner channels that the projection weighs most remain, as Once-for-all sorts them (Cai et
    al., ICLR 2020, arXiv:1908.09791, section 3.3). Raises `UsageError` for a ratio that is none.
    """
    block = found_block(net, place, ("mbconv",))
    if not 1 < expand_ratio < block.expand_ratio:
        raise UsageError(
            f"block {place} ({block.key}) expands {block.expand_ratio:g} times: {expand_ratio:g} "
            "is not less, or leaves no expansion layer"
        )
    thin = msgspec.structs.replace(block, expand_ratio=expand_ratio)
    weights, own = dict(net.weights), f"blocks.{place}.layers"
    project = weights[f"{own}.project.conv.weight"]
    channels = strongest(project.transpose(0, 1), thin.mid_channels)
    remap_outputs(weights, (f"{own}.expand", f"{own}.depthwise"), channels)
    weights[f"{own}.project.conv.weight"] = project[:, channels]
    if block.squeeze_excite:
        squeeze, excite = f"{own}.se.squeeze", f"{own}.se.excite"
        gates = strongest(weights[f"{excite}.weight"].transpose(0, 1), thin.se_channels)
        remap_outputs(weights, (squeeze,), gates)
        remap_outputs(weights, (excite,), channels)
        weights[f"{squeeze}.weight"] = weights[f"{squeeze}.weight"][:, channels]
        weights[f"{excite}.weight"] = weights[f"{excite}.weight"][:, gates]
    return Net(replaced(net.blocks, place, thin), weights)


def skipped_block(net: Net, place: int, last: int) -> Net:
    """Return the network with the block ``place`` replaced by its shortcut, moved behind the block
    ``last``. Raises `UsageError` for a block without a shortcut."""
    block = found_block(net, place, ("mbconv", "fused_mbconv"))
    if not block.residual:
        raise UsageError(f"block {place} ({block.key}) has no shortcut: it cannot be left out")
    own = f"blocks.{place}."
    others = {name: value for name, value in net.weights.items() if not name.startswith(own)}
    skip = Block("identity", block.in_channels, block.out_channels, 1, 1, 1, block.in_size)
    return moved_block(Net(replaced(net.blocks, place, skip), others), place, last)


def _given(net: Net, place: int, index: Tensor, channels: int | None = None) -> Net:
    """Give what takes channels, from ``place`` on, the old ones of ``index`` and then, up to
    ``channels``, such as it has no weights for yet."""
    channels = len(index) if channels is None else channels
    blocks: tuple[Block, ...] = net.blocks
    weights = dict(net.weights)
    for later in range(place, len(blocks)):
        block = with_inputs(blocks[later], channels)
        blocks = replaced(blocks, later, block)
        if block.op not in POOLS:
            name = taking(block, later)
            kernel = weights[name][:, index]
            blind = kernel.new_zeros(len(kernel), channels - len(index), *kernel.shape[2:])
            weights[name] = torch.cat((kernel, blind), dim=1)
            break
    return Net(blocks, weights)
