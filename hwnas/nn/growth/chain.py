"""Growing plain networks: convolution, batch norm, activation in a row, pools between them.

Cai et al., arXiv:1707.04873, section 3; a fully connected layer is a convolution of kernel 1 on
the one pixel that a global pool leaves.
"""

from __future__ import annotations

import msgspec
import torch
from torch import Tensor, nn

from hwnas.architecture.architecture import Block
from hwnas.errors import UsageError
from hwnas.nn.growth.transforms import (
    Net,
    Remap,
    check_grows,
    disturb,
    found_block,
    remap_outputs,
    replaced,
    shift_block_indices,
    with_inputs,
)

IDEMPOTENT = {"relu", "relu6"}
"""Activations with ``act(act(x)) = act(x)``; after others an identity layer is none."""

POOLS = ("max_pool", "avg_pool", "global_pool")


def wider(net: Net, place: int, width: int, generator: torch.Generator, noise: float = 0.0) -> Net:
    """Return the network whose convolution ``place`` has ``width`` filters (Net2Wider).

    New filters copy random old ones with their batch norm; the consumer's weights are divided
    among the copies. Pools pass the copies on. ``noise`` is a share of the weights' spread, see
    `WIDER_NOISE`; only 0 preserves the function. Raises `UsageError` for what is not legal.
    """
    block = found_block(net, place, ("conv",))
    check_grows(block, place, "a width of", block.out_channels, width)
    remap = Remap.sample(block.out_channels, width, generator)
    weights, blocks = dict(net.weights), net.blocks
    own = f"blocks.{place}"
    remap_outputs(weights, (f"{own}.conv", f"{own}.norm"), remap.source)
    disturb(weights, f"{own}.conv.weight", block.out_channels, noise, generator)
    blocks = replaced(blocks, place, msgspec.structs.replace(block, out_channels=width))
    for later in range(place + 1, len(blocks)):
        blocks = replaced(blocks, later, with_inputs(blocks[later], width))
        if blocks[later].op not in POOLS:
            name = taking(blocks[later], later)
            weights[name] = remap.inputs(weights[name])
            return Net(blocks, weights)
    raise UsageError(f"block {place} ({block.key}): nothing takes its output")


def deeper(
    net: Net,
    place: int,
    kernel_size: int,
    images: Tensor,
    generator: torch.Generator | None = None,
    noise: float = 0.0,
) -> Net:
    """Return the network with an identity layer of ``kernel_size`` after ``place`` (Net2Deeper).

    Its batch norm is set from the activations of ``images [N, C, H, W]`` that it will normalise,
    so it is the identity in evaluation mode and, on these images, in training mode. Raises
    `UsageError` where an activation is not idempotent.
    """
    block = found_block(net, place, ("conv",))
    if block.activation not in IDEMPOTENT:
        raise UsageError(
            f"block {place} ({block.key}): after {block.activation} an added layer would change "
            f"the function, it needs {' or '.join(sorted(IDEMPOTENT))}"
        )
    if kernel_size % 2 == 0 or (block.out_size == 1 and kernel_size != 1):
        raise UsageError(
            f"block {place} ({block.key}): no identity of kernel {kernel_size} at "
            f"{block.out_size} px; an odd one, 1 for a single pixel"
        )
    width = block.out_channels
    added = Block(
        "conv", width, width, kernel_size, 1, 1, block.out_size, block.activation
    )  # fmt: skip
    mean, var = activation_statistics(net, place, images)
    weights, own = shift_block_indices(net.weights, place + 1), f"blocks.{place + 1}"
    kernel = torch.zeros(width, width, kernel_size, kernel_size, dtype=mean.dtype)
    middle = kernel_size // 2
    kernel[torch.arange(width), torch.arange(width), middle, middle] = 1.0
    weights[f"{own}.conv.weight"] = kernel
    if noise:
        assert generator is not None
        disturb(weights, f"{own}.conv.weight", 0, noise, generator)
    weights[f"{own}.norm.weight"] = (var + nn.BatchNorm2d(1).eps).sqrt()
    weights[f"{own}.norm.bias"] = mean
    weights[f"{own}.norm.running_mean"] = mean.clone()
    weights[f"{own}.norm.running_var"] = var
    weights[f"{own}.norm.num_batches_tracked"] = torch.tensor(0)
    return Net((*net.blocks[: place + 1], added, *net.blocks[place + 1 :]), weights)


@torch.no_grad()
def activation_statistics(net: Net, place: int, images: Tensor) -> tuple[Tensor, Tensor]:
    """Return mean and variance ``[C]`` of each channel behind ``place`` in training mode.

    Training mode, because the norm that they are for will normalise such batches first.
    """
    part = net.network().train().blocks[: place + 1]
    values = part(images.to(next(part.parameters()).dtype))
    return values.mean((0, 2, 3)), values.var((0, 2, 3), unbiased=False)


def taking(block: Block, place: int) -> str:
    """Return the name of the kernel that takes a block's input. Raises `UsageError` for others."""
    if block.op == "conv":
        return f"blocks.{place}.conv.weight"
    if block.op == "logits":
        return f"blocks.{place}.linear.weight"
    raise UsageError(f"block {place} ({block.key}) cannot take copied channels: conv or logits can")
