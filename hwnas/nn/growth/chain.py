"""Growth of plain networks: a chain of convolution, batch norm and activation, with pools between.

Cai et al., arXiv:1707.04873, section 3. A fully connected layer is a 1x1 convolution of the single
pixel after a global pool.
"""

from __future__ import annotations

import msgspec
import torch
from torch import Tensor

from hwnas.architecture.architecture import Block
from hwnas.errors import UsageError
from hwnas.nn.growth.transforms import (
    Net,
    Remap,
    add_noise,
    check_larger,
    get_block,
    remap_outputs,
    replace_block,
    shift_block_indices,
    with_inputs,
)

IDEMPOTENT = {"relu", "relu6"}
"""Activations with ``act(act(x)) = act(x)``; after others an added layer is not the identity."""

POOL_OPS = ("max_pool", "avg_pool", "global_pool")


def wider(net: Net, place: int, width: int, generator: torch.Generator, noise: float = 0.0) -> Net:
    """Widen the convolution at index ``place`` to ``width`` filters (Net2Wider).

    New filters copy random old ones with their batch norm; the consumer's weights are divided
    among the copies. Pools pass the copies on. ``noise`` is relative to the standard deviation of
    the weights, see `WIDER_NOISE`; only 0 preserves the function. Raises `UsageError` for a block
    that is not a convolution and for a width that is not larger.
    """
    block = get_block(net, place, ("conv",))
    check_larger(block, place, "a width of", block.out_channels, width)
    remap = Remap.sample(block.out_channels, width, generator)
    weights, blocks = dict(net.weights), net.blocks
    own = f"blocks.{place}"
    remap_outputs(weights, (f"{own}.conv", f"{own}.norm"), remap.source)
    add_noise(weights, f"{own}.conv.weight", block.out_channels, noise, generator)
    blocks = replace_block(blocks, place, msgspec.structs.replace(block, out_channels=width))
    for later in range(place + 1, len(blocks)):
        blocks = replace_block(blocks, later, with_inputs(blocks[later], width))
        if blocks[later].op not in POOL_OPS:
            name = input_kernel(blocks[later], later)
            weights[name] = remap.inputs(weights[name])
            return net._replace(blocks=blocks, weights=weights)
    raise UsageError(f"block {place} ({block.key}): no later block has weights to widen")


def deeper(
    net: Net,
    place: int,
    kernel_size: int,
    images: Tensor,
    generator: torch.Generator | None = None,
    noise: float = 0.0,
) -> Net:
    """Insert an identity convolution of ``kernel_size`` after block ``place`` (Net2Deeper).

    Its batch norm is set from its input for ``images [N, C, H, W]``, so it is the identity in
    evaluation mode and, on these images, in training mode. Raises `UsageError` after an activation
    that is not idempotent.
    """
    block = get_block(net, place, ("conv",))
    if block.activation not in IDEMPOTENT:
        raise UsageError(
            f"block {place} ({block.key}): a layer added after {block.activation} would "
            f"change the function; expected {' or '.join(sorted(IDEMPOTENT))}"
        )
    if kernel_size % 2 == 0 or (block.out_size == 1 and kernel_size != 1):
        raise UsageError(
            f"block {place} ({block.key}): a kernel of {kernel_size} cannot be the "
            f"identity at {block.out_size} px; expected an odd size, or 1 for a single pixel"
        )
    width = block.out_channels
    added = Block("conv", width, width, kernel_size, 1, 1, block.out_size, block.activation)
    mean, var = activation_statistics(net, place, images)
    weights, own = shift_block_indices(net.weights, place + 1), f"blocks.{place + 1}"
    kernel = torch.zeros(width, width, kernel_size, kernel_size, dtype=mean.dtype)
    middle = kernel_size // 2
    kernel[torch.arange(width), torch.arange(width), middle, middle] = 1.0
    weights[f"{own}.conv.weight"] = kernel
    if noise:
        assert generator is not None
        add_noise(weights, f"{own}.conv.weight", 0, noise, generator)
    weights[f"{own}.norm.weight"] = (var + net.norm_eps).sqrt()
    weights[f"{own}.norm.bias"] = mean
    weights[f"{own}.norm.running_mean"] = mean.clone()
    weights[f"{own}.norm.running_var"] = var
    weights[f"{own}.norm.num_batches_tracked"] = torch.tensor(0)
    blocks = (*net.blocks[: place + 1], added, *net.blocks[place + 1 :])
    return net._replace(blocks=blocks, weights=weights)


@torch.no_grad()
def activation_statistics(net: Net, place: int, images: Tensor) -> tuple[Tensor, Tensor]:
    """Return mean and variance ``[C]`` of the output of block ``place``, in training mode.

    Training mode is used, because the batch norm that is set from them is trained next.
    """
    part = net.network().train().blocks[: place + 1]
    values = part(images.to(next(part.parameters())))
    return values.mean((0, 2, 3)), values.var((0, 2, 3), unbiased=False)


def input_kernel(block: Block, place: int) -> str:
    """Return the name of the weight that a block's input is multiplied by.

    Raises `UsageError` for a block other than ``conv`` and ``logits``.
    """
    if block.op == "conv":
        return f"blocks.{place}.conv.weight"
    if block.op == "logits":
        return f"blocks.{place}.linear.weight"
    raise UsageError(
        f"block {place} ({block.key}) cannot take copied channels; expected conv or logits"
    )
