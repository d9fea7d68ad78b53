"""Architectures as plain data: no torch, no devices."""

from __future__ import annotations

import hashlib
from typing import Literal

import msgspec

from hwnas.architecture.block import ACTIVATIONS, Block, round_channels
from hwnas.architecture.graph import Inputs, chained, check_wiring
from hwnas.architecture.ops import OPS

__all__ = [
    "ACTIVATIONS",
    "NORM_EPS",
    "OPS",
    "Architecture",
    "Block",
    "Genotype",
    "round_channels",
]

NORM_EPS = 1e-5
"""PyTorch's default."""


class Genotype(msgspec.Struct, frozen=True):
    """The choices made: the index of a candidate for each decision of a space, in order."""

    space: str
    choices: tuple[int, ...]


class Architecture(msgspec.Struct, frozen=True):
    """A genotype with all shapes: what is built, exported and measured."""

    genotype: Genotype
    blocks: tuple[Block, ...]
    input_shape: tuple[int, int, int]
    """Channels, height, width."""
    num_classes: int
    inputs: Inputs = ()
    """For each block the indices of the blocks whose outputs it takes, see
    `hwnas.architecture.graph`; empty for a chain."""
    norm_eps: float = NORM_EPS
    """Constant that every batch norm adds to the variance, for numerical stability."""

    def __post_init__(self) -> None:
        if self.inputs:
            check_wiring(self.blocks, self.inputs, self.input_shape)

    @property
    def digest(self) -> str:
        """Sixteen hex digits that identify what is computed, however it was searched."""
        keys = [block.key for block in self.blocks]
        content = msgspec.json.encode((keys, self.input_shape, self.num_classes))
        if self.inputs and self.inputs != chained(self.blocks):
            content += msgspec.json.encode(self.inputs)
        if self.norm_eps != NORM_EPS:
            content += msgspec.json.encode({"norm_eps": self.norm_eps})
        return hashlib.sha256(content).hexdigest()[:16]

    @property
    def precision(self) -> Literal["fp32", "int8"]:
        """Precision of the compiled file: ``int8`` if any block is."""
        return "int8" if any(block.precision == "int8" for block in self.blocks) else "fp32"

    @property
    def compute_blocks(self) -> tuple[Block, ...]:
        """The blocks that compute something, in order: all but skips and zeros."""
        return tuple(block for block in self.blocks if not block.is_free)

    @property
    def macs(self) -> int:
        return sum(block.macs for block in self.blocks)

    @property
    def params(self) -> int:
        return sum(block.params for block in self.blocks)
