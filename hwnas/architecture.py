"""Architectures as plain data: no torch, no devices.

MACs count convolutions and the linear layer (1 MAC = 2 FLOPs); batch norm, activations, pooling
and additions count nothing. Parameters: convolutions have no bias, batch norm has 2 a channel,
the linear layer and the squeeze-excite convolutions have a bias. These are the counting rules of
the published ProxylessNAS figures.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable

import msgspec


class Block(msgspec.Struct, frozen=True):
    """One block at one place of a network; everything its latency may depend on.

    ``op`` is ``conv`` (convolution, batch norm, activation), ``mbconv``, ``fused_mbconv``,
    ``identity`` (a skipped block: nothing is computed) or ``logits`` (global average pool and
    linear layer; ``out_channels`` is the number of classes).
    """

    op: str
    in_channels: int
    out_channels: int
    kernel_size: int
    stride: int
    expand_ratio: float
    in_size: int
    """Height and width of the input feature map, in pixels."""
    activation: str = "relu6"
    """``relu6``, ``relu`` or ``hswish``."""
    squeeze_excite: bool = False
    """Squeeze-excite after the depthwise convolution (``mbconv`` only)."""

    @property
    def key(self) -> str:
        """Stable row name in a latency table, e.g. ``mbconv k5 s2 e6 32>64 @56``."""
        flags = (" se" if self.squeeze_excite else "") + (
            "" if self.activation == "relu6" else f" {self.activation}"
        )
        return (
            f"{self.op} k{self.kernel_size} s{self.stride} e{self.expand_ratio:g} "
            f"{self.in_channels}>{self.out_channels} @{self.in_size}{flags}"
        )

    @property
    def out_size(self) -> int:
        """Height and width of the output feature map, in pixels (1 after ``logits``)."""
        return 1 if self.op == "logits" else (self.in_size - 1) // self.stride + 1

    @property
    def mid_channels(self) -> int:
        """Channels between expansion and projection."""
        return int(self.in_channels * self.expand_ratio + 0.5)

    @property
    def se_channels(self) -> int:
        """Channels of the squeeze-excite bottleneck: a quarter of its input, rounded to 8."""
        return round_channels(self.mid_channels / 4)

    @property
    def residual(self) -> bool:
        """Whether the block adds its input to its output."""
        return (
            self.op in ("mbconv", "fused_mbconv")
            and self.stride == 1
            and self.in_channels == self.out_channels
        )

    @property
    def macs(self) -> int:
        return _MACS[self.op](self)

    @property
    def params(self) -> int:
        return _PARAMS[self.op](self)


class Genotype(msgspec.Struct, frozen=True):
    """The choices made: one candidate index for each decision of a space, in its order."""

    space: str
    choices: tuple[int, ...]


class Architecture(msgspec.Struct, frozen=True):
    """A genotype with all shapes: what is built, exported and measured."""

    genotype: Genotype
    blocks: tuple[Block, ...]
    input_shape: tuple[int, int, int]
    """Channels, height, width."""
    num_classes: int

    @property
    def digest(self) -> str:
        """Sixteen hex digits that name what is computed (not how it was found)."""
        keys = [block.key for block in self.blocks]
        said = msgspec.json.encode((keys, self.input_shape, self.num_classes))
        return hashlib.sha256(said).hexdigest()[:16]

    @property
    def macs(self) -> int:
        return sum(block.macs for block in self.blocks)

    @property
    def params(self) -> int:
        return sum(block.params for block in self.blocks)


def round_channels(channels: float, divisor: int = 8) -> int:
    """Round half up to a multiple of ``divisor``, never more than 10 % below ``channels``."""
    rounded = max(divisor, int(channels + divisor / 2) // divisor * divisor)
    return rounded + divisor if rounded < 0.9 * channels else rounded


def _conv_macs(block: Block) -> int:
    return block.out_size**2 * block.kernel_size**2 * block.in_channels * block.out_channels


def _se_macs(block: Block) -> int:
    return 2 * block.mid_channels * block.se_channels if block.squeeze_excite else 0


def _mbconv_macs(block: Block) -> int:
    mid = block.mid_channels
    expand = block.in_size**2 * block.in_channels * mid if block.expand_ratio != 1 else 0
    depthwise = block.out_size**2 * block.kernel_size**2 * mid
    return expand + depthwise + block.out_size**2 * mid * block.out_channels + _se_macs(block)


def _fused_macs(block: Block) -> int:
    if block.expand_ratio == 1:
        return _conv_macs(block)
    mid = block.mid_channels
    dense = block.out_size**2 * block.kernel_size**2 * block.in_channels * mid
    return dense + block.out_size**2 * mid * block.out_channels


def _conv_params(block: Block) -> int:
    weights = block.kernel_size**2 * block.in_channels * block.out_channels
    return weights + 2 * block.out_channels


def _se_params(block: Block) -> int:
    mid, squeezed = block.mid_channels, block.se_channels
    return 2 * mid * squeezed + mid + squeezed if block.squeeze_excite else 0


def _mbconv_params(block: Block) -> int:
    mid = block.mid_channels
    expand = block.in_channels * mid + 2 * mid if block.expand_ratio != 1 else 0
    depthwise = block.kernel_size**2 * mid + 2 * mid
    project = mid * block.out_channels + 2 * block.out_channels
    return expand + depthwise + project + _se_params(block)


def _fused_params(block: Block) -> int:
    if block.expand_ratio == 1:
        return _conv_params(block)
    mid = block.mid_channels
    dense = block.kernel_size**2 * block.in_channels * mid + 2 * mid
    project = mid * block.out_channels + 2 * block.out_channels
    return dense + project


def _nothing(block: Block) -> int:
    return 0


_MACS: dict[str, Callable[[Block], int]] = {
    "conv": _conv_macs,
    "mbconv": _mbconv_macs,
    "fused_mbconv": _fused_macs,
    "identity": _nothing,
    "logits": lambda block: block.in_channels * block.out_channels,
}
_PARAMS: dict[str, Callable[[Block], int]] = {
    "conv": _conv_params,
    "mbconv": _mbconv_params,
    "fused_mbconv": _fused_params,
    "identity": _nothing,
    "logits": lambda block: (block.in_channels + 1) * block.out_channels,
}
