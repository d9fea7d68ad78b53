"""Function-preserving growth: what all transformations of trained networks work with.

Chen, Goodfellow and Shlens, "Net2Net", ICLR 2016, arXiv:1511.05641, in the form that Cai et al.
search with ("Efficient Architecture Search by Network Transformation", AAAI 2018,
arXiv:1707.04873). A transformation takes a `Net` and returns a new one that computes the same
function; it changes nothing in place.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

import msgspec
import torch
from torch import Tensor

from hwnas.architecture.architecture import Block
from hwnas.errors import UsageError
from hwnas.nn.network import Network

Weights = Mapping[str, Tensor]
"""The state of a `Network` by the names of its modules; batch norm statistics included."""

WIDER_NOISE, DEEPER_NOISE = 1e-2, 1e-3
"""Spread of the symmetry-breaking noise over that of the weights, as in the EAS code."""


class Net(NamedTuple):
    """A trained chain of blocks."""

    blocks: tuple[Block, ...]
    weights: Weights

    def network(self) -> Network:
        """Return the network with a copy of the weights, in their number type."""
        network = Network(self.blocks)
        if self.weights:
            network.to(next(w.dtype for w in self.weights.values() if w.is_floating_point()))
        network.load_state_dict(dict(self.weights))
        return network


def net_of(blocks: tuple[Block, ...], network: Network) -> Net:
    """Return a network's blocks with a copy of its weights."""
    return Net(blocks, {name: value.clone() for name, value in network.state_dict().items()})


class Remap(NamedTuple):
    """Which old channel each new one copies, and the share of it that its consumers take.

    The shares of the copies of one channel sum to 1, so consumers see the same sum as before.
    """

    source: Tensor
    """int64 ``[new]``"""
    share: Tensor
    """``[new]``"""

    @classmethod
    def of(cls, index: Tensor) -> Remap:
        counts = torch.bincount(index)
        return cls(index, 1.0 / counts[index].double())

    @classmethod
    def sample(cls, old: int, new: int, generator: torch.Generator) -> Remap:
        """Keep all ``old`` channels and copy random ones behind them, up to ``new``."""
        copies = torch.randint(old, (new - old,), generator=generator)
        return cls.of(torch.cat((torch.arange(old), copies)))

    def inputs(self, kernel: Tensor) -> Tensor:
        """Return a consumer's ``kernel [O, I, ...]`` for the new channels."""
        share = self.share.to(kernel.dtype).view(1, -1, *[1] * (kernel.ndim - 2))
        return kernel[:, self.source] * share


def strongest(kernel: Tensor, count: int) -> Tensor:
    """Return which ``count`` filters of ``kernel [O, I, ...]`` have the greatest L1 norm, in order.

    Li et al., "Pruning Filters for Efficient ConvNets", ICLR 2017, arXiv:1608.08710.
    """
    norms = kernel.abs().flatten(1).sum(1)
    return norms.argsort(descending=True, stable=True)[:count].sort().values


def remap_outputs(weights: dict[str, Tensor], names: tuple[str, ...], index: Tensor) -> None:
    """Give the tensors called ``names`` or below them the channels ``index`` (axis 0)."""
    for name, value in list(weights.items()):
        if value.ndim and any(name == one or name.startswith(f"{one}.") for one in names):
            weights[name] = value[index]


def disturb(
    weights: dict[str, Tensor], name: str, first: int, ratio: float, generator: torch.Generator
) -> None:
    """Add noise to the filters from ``first`` on, so that copies do not stay equal."""
    if ratio:
        kernel = weights[name].clone()
        new = kernel[first:]
        noise = torch.randn(new.shape, generator=generator, dtype=torch.float64)
        kernel[first:] = new + (noise * ratio).to(kernel.dtype) * kernel.std()
        weights[name] = kernel


def spread(weights: Weights, place: int, by: int = 1) -> dict[str, Tensor]:
    """Move the weights of the blocks from ``place`` on by so many places."""
    moved: dict[str, Tensor] = {}
    for name, value in weights.items():
        _, number, rest = name.split(".", 2)
        later = int(number) + by if int(number) >= place else int(number)
        moved[f"blocks.{later}.{rest}"] = value
    return moved


def moved_block(net: Net, place: int, to: int) -> Net:
    """Return the network whose block ``place`` stands at ``to``; those in between make room."""
    order = list(range(len(net.blocks)))
    order.insert(to, order.pop(place))
    now = {old: new for new, old in enumerate(order)}
    weights: dict[str, Tensor] = {}
    for name, value in net.weights.items():
        _, number, rest = name.split(".", 2)
        weights[f"blocks.{now[int(number)]}.{rest}"] = value
    return Net(tuple(net.blocks[old] for old in order), weights)


def replaced(blocks: tuple[Block, ...], place: int, block: Block) -> tuple[Block, ...]:
    return (*blocks[:place], block, *blocks[place + 1 :])


def with_inputs(block: Block, channels: int) -> Block:
    """Return ``block`` for an input of that many channels; what has no weights gives as many."""
    if block.op in ("max_pool", "avg_pool", "global_pool"):
        return msgspec.structs.replace(block, in_channels=channels, out_channels=channels)
    if block.op == "dense_layer":
        return msgspec.structs.replace(
            block, in_channels=channels, out_channels=channels + block.growth
        )
    return msgspec.structs.replace(block, in_channels=channels)


def check_grows(block: Block, place: int, what: str, old: float, new: float) -> None:
    """Raise a `UsageError` for a step that is none."""
    if new <= old:
        raise UsageError(
            f"block {place} ({block.key}) has {what} {old:g}: {new:g} is not more, and a step "
            "that takes away does not preserve the function"
        )


def found_block(net: Net, place: int, ops: tuple[str, ...]) -> Block:
    """Return the block at ``place``. Raises `UsageError` if it is none of ``ops``."""
    if not 0 <= place < len(net.blocks):
        raise UsageError(f"there is no block {place}, the network has {len(net.blocks)}")
    block = net.blocks[place]
    if block.op not in ops:
        raise UsageError(f"block {place} ({block.key}): this step is for {', '.join(ops)}")
    return block
