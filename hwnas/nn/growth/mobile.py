"""Growth of chains of MBConv: a larger expansion, a larger kernel, one more block.

They extend the steps of the EAS paper to inverted bottlenecks (Sandler et al., CVPR 2018).
"""

from __future__ import annotations

import msgspec
import torch
import torch.nn.functional as F
from torch import nn

from hwnas.architecture.architecture import Block
from hwnas.errors import UsageError
from hwnas.nn.blocks.table import block_module
from hwnas.nn.growth.transforms import (
    Net,
    Remap,
    add_noise,
    check_larger,
    get_block,
    move_block,
    remap_outputs,
    with_block,
)

MBCONV_OPS = ("mbconv", "fused_mbconv")


def wider_expansion(
    net: Net, place: int, expand_ratio: float, generator: torch.Generator, noise: float = 0.0
) -> Net:
    """Widen the expansion of block ``place`` to ``expand_ratio`` times its input.

    The inner channels are copied, as are those of a squeeze-excite. Raises `UsageError` for a
    block with expansion 1, which has no expansion layer to copy channels of.
    """
    block = get_block(net, place, MBCONV_OPS)
    check_larger(block, place, "an expansion of", block.expand_ratio, expand_ratio)
    if block.expand_ratio == 1:
        raise UsageError(f"block {place} ({block.key}) has no expansion layer to widen")
    wide = msgspec.structs.replace(block, expand_ratio=expand_ratio)
    mid = Remap.sample(block.mid_channels, wide.mid_channels, generator)
    weights, own = dict(net.weights), f"blocks.{place}.layers"
    first = "expand" if block.op == "mbconv" else "dense"
    inner = (f"{own}.{first}", f"{own}.depthwise") if block.op == "mbconv" else (f"{own}.{first}",)
    remap_outputs(weights, inner, mid.source)
    add_noise(weights, f"{own}.{first}.conv.weight", block.mid_channels, noise, generator)
    if block.squeeze_excite:
        gates = Remap.sample(block.se_channels, wide.se_channels, generator)
        _remap_gate(weights, f"{own}.se", mid, gates)
    weights[f"{own}.project.conv.weight"] = mid.inputs(weights[f"{own}.project.conv.weight"])
    return with_block(net, place, wide, weights)


def larger_kernel(net: Net, place: int, kernel_size: int) -> Net:
    """Pad the kernel of block ``place`` with zeros to a larger odd ``kernel_size``."""
    block = get_block(net, place, (*MBCONV_OPS, "conv"))
    check_larger(block, place, "a kernel of", block.kernel_size, kernel_size)
    if kernel_size % 2 == 0 or block.in_size == 1:
        raise UsageError(
            f"block {place} ({block.key}): expected an odd kernel size and an input of more than "
            f"1 px, got a kernel of {kernel_size} at {block.in_size} px"
        )
    own = {"mbconv": "layers.depthwise.", "fused_mbconv": "layers.dense.", "conv": ""}[block.op]
    name = f"blocks.{place}.{own}conv.weight"
    margin = (kernel_size - block.kernel_size) // 2
    weights = {**net.weights, name: F.pad(net.weights[name], (margin,) * 4)}
    larger = msgspec.structs.replace(block, kernel_size=kernel_size)
    return with_block(net, place, larger, weights)


def block_after(net: Net, place: int, kernel_size: int, generator: torch.Generator) -> Net:
    """Insert a copy of block ``place`` after it, with another kernel size and new weights.

    It replaces the first skipped block after ``place``; the blocks in between move back by one.
    Raises `UsageError` if no later block is skipped.
    """
    block = get_block(net, place, MBCONV_OPS)
    skip = next((n for n in range(place, len(net.blocks)) if net.blocks[n].op == "identity"), None)
    if skip is None:
        raise UsageError(f"no block is skipped after block {place} ({block.key})")
    like = msgspec.structs.replace(
        block,
        in_channels=block.out_channels,
        kernel_size=kernel_size,
        stride=1,
        in_size=block.out_size,
    )
    return insert_block(move_block(net, skip, place + 1), place + 1, like, generator)


def insert_block(net: Net, place: int, block: Block, generator: torch.Generator) -> Net:
    """Replace the skipped block (``identity``) at index ``place`` by ``block``.

    Its branch ends in a batch norm with gain 0, so at first it is the identity. Raises
    `UsageError` for a block without a shortcut, and for one whose branch ends in an activation:
    ReLU has no gradient at 0.
    """
    skipped = get_block(net, place, ("identity",))
    shape = skipped.in_channels, skipped.out_channels, skipped.in_size
    if not block.residual or (block.in_channels, block.out_channels, block.in_size) != shape:
        raise UsageError(f"{block.key} cannot replace block {place} ({skipped.key})")
    if block.op == "fused_mbconv" and block.expand_ratio == 1:
        raise UsageError(
            f"{block.key} ends in an activation without gradient at 0, so it could not be trained"
        )
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(int(torch.randint(2**62, (), generator=generator)))
        module = block_module(block)
    last = module.get_submodule("layers.project.norm")
    assert isinstance(last, nn.BatchNorm2d)
    nn.init.zeros_(last.weight)
    dtype = next(value.dtype for value in net.weights.values() if value.is_floating_point())
    module.to(dtype)
    added = {f"blocks.{place}.{name}": value for name, value in module.state_dict().items()}
    return with_block(net, place, block, {**net.weights, **added})


def _remap_gate(weights: dict[str, torch.Tensor], own: str, mid: Remap, gates: Remap) -> None:
    squeeze, excite = f"{own}.squeeze.weight", f"{own}.excite.weight"
    weights[squeeze] = mid.inputs(weights[squeeze])
    weights[excite] = gates.inputs(weights[excite])
    remap_outputs(weights, (f"{own}.squeeze",), gates.source)
    remap_outputs(weights, (f"{own}.excite",), mid.source)
