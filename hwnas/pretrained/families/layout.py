"""Chains of inverted residuals as the papers' tables list them, and the names of their modules."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Literal, NamedTuple

import torch
from torch import Tensor

from hwnas.architecture.architecture import Architecture, Block, Genotype
from hwnas.nn.build import build
from hwnas.pretrained.weights import COUNTER, check_keys

ModulePairs = dict[str, str]
"""Names of our modules and of theirs."""


class Row(NamedTuple):
    """A run of blocks of one width; the first has the stride."""

    kernel_size: int
    stride: int
    expand_ratio: int
    width: int
    depth: int
    activation: str = "relu6"
    squeeze_excite: bool = False


class Chain(NamedTuple):
    """A 3x3 convolution of stride 2, rows of blocks, a 1x1 convolution, and the classifier."""

    stem: int
    rows: tuple[Row, ...]
    head: int
    norm_eps: float
    mix: int = 0
    """Width of MobileNetV3's convolution after the pool; 0: there is none."""
    activation: str = "relu6"
    """Activation of stem and head."""
    padding: Literal["symmetric", "same"] = "symmetric"


def architecture(chain: Chain, name: str, size: int, num_classes: int = 1000) -> Architecture:
    """Return the network for colour images of ``size`` pixels."""
    act, padding = chain.activation, chain.padding
    blocks = [Block("conv", 3, chain.stem, 3, 2, 1, size, act, padding=padding)]
    for row in chain.rows:
        for place in range(row.depth):
            blocks.append(_block(row, blocks[-1], 1 if place else row.stride, padding))
    last = blocks[-1]
    blocks.append(Block("conv", last.out_channels, chain.head, 1, 1, 1, last.out_size, act))
    if chain.mix:
        blocks.append(Block("mix", chain.head, chain.mix, 1, 1, 1, last.out_size, act))
    last = blocks[-1]
    blocks.append(Block("logits", last.out_channels, num_classes, 1, 1, 1, last.out_size))
    shape = (3, size, size)
    return Architecture(
        Genotype(name, ()), tuple(blocks), shape, num_classes, norm_eps=chain.norm_eps
    )


def _block(row: Row, before: Block, stride: int, padding: Literal["symmetric", "same"]) -> Block:
    return Block(
        "mbconv",
        before.out_channels,
        row.width,
        row.kernel_size,
        stride,
        row.expand_ratio,
        before.out_size,
        row.activation,
        row.squeeze_excite,
        padding=padding,
    )


def conv_norm(ours: str, conv: str, norm: str) -> ModulePairs:
    return {f"{ours}.conv": conv, f"{ours}.norm": norm}


def our_weights(
    path: Path, weights: Mapping[str, Tensor], network: Architecture, modules: ModulePairs
) -> dict[str, Tensor]:
    """Return ``weights`` under our names. Raises `InvalidFile` that names one of their keys."""
    with torch.device("meta"):
        expected = build(network).state_dict()
    names = {
        ours: f"{modules[ours.rpartition('.')[0]]}.{ours.rpartition('.')[2]}"
        for ours in expected
        if not ours.endswith(COUNTER)
    }
    check_keys(path, weights, {theirs: expected[ours] for ours, theirs in names.items()})
    return {ours: weights[theirs] for ours, theirs in names.items()}


def inverted_residuals(
    blocks: Sequence[Block], pairs: Callable[[int, Block], ModulePairs]
) -> ModulePairs:
    """Return the module pairs of all MBConvs; ``pairs`` is called with their number among the
    blocks after the stem, skips included."""
    modules: ModulePairs = {}
    for place, block in enumerate(blocks):
        if block.op == "mbconv":
            prefix = f"blocks.{place}"
            modules |= {
                f"{prefix}.{ours}": theirs for ours, theirs in pairs(place - 1, block).items()
            }
    return modules
