"""Building blocks of all function-preserving transformations of trained networks.

Chen, Goodfellow and Shlens, "Net2Net", ICLR 2016, arXiv:1511.05641, in the form used for search by
Cai et al., "Efficient Architecture Search by Network Transformation", AAAI 2018, arXiv:1707.04873.
A transformation takes a `Net` and returns a new one that computes the same function; it changes
nothing in place.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

import msgspec
import torch
from torch import Tensor

from hwnas.architecture.architecture import NORM_EPS, Block
from hwnas.errors import UsageError
from hwnas.nn.elastic.importance import l1, most_important
from hwnas.nn.network import Network

Weights = Mapping[str, Tensor]
"""The state dict of a `Network`, including batch norm statistics."""

WIDER_NOISE, DEEPER_NOISE = 1e-2, 1e-3
"""Symmetry-breaking noise: standard deviation over that of the weights, as in the EAS code."""


class Net(NamedTuple):
    """A trained chain of blocks; its weights are on the CPU, where they are transformed."""

    blocks: tuple[Block, ...]
    weights: Weights
    norm_eps: float = NORM_EPS

    def network(self) -> Network:
        """Return the network with a copy of the weights in their data type."""
        network = Network(self.blocks, norm_eps=self.norm_eps)
        if self.weights:
            network.to(next(w.dtype for w in self.weights.values() if w.is_floating_point()))
        network.load_state_dict(dict(self.weights))
        return network


def net_of(blocks: tuple[Block, ...], network: Network) -> Net:
    """Return the blocks of a network with a copy of its weights."""
    state = network.state_dict()
    weights = {name: value.to("cpu", copy=True) for name, value in state.items()}
    return Net(blocks, weights, network.norm_eps)


class Remap(NamedTuple):
    """The old channel that each new one copies, and the factor that its consumers apply to it.

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
        """Keep all ``old`` channels and append copies of random ones, up to ``new``."""
        copies = torch.randint(old, (new - old,), generator=generator)
        return cls.of(torch.cat((torch.arange(old), copies)))

    def inputs(self, kernel: Tensor) -> Tensor:
        """Return the ``kernel [O, I, ...]`` of a consumer for the new channels."""
        share = self.share.to(kernel.dtype).view(1, -1, *[1] * (kernel.ndim - 2))
        return kernel[:, self.source] * share


def strongest(kernel: Tensor, count: int, group_width: int = 1) -> Tensor:
    """Return the ``count`` filters of ``kernel [O, I, ...]`` with the largest L1 norm, in order.

    They are chosen in whole groups of ``group_width`` filters in a row. Li et al., "Pruning Filters
    for Efficient ConvNets", ICLR 2017, arXiv:1608.08710.
    """
    norms = l1(kernel).view(-1, group_width).sum(dim=1)
    groups = most_important(norms, count // group_width)
    return torch.arange(len(kernel)).view(-1, group_width)[groups].flatten()


def remap_outputs(weights: dict[str, Tensor], names: tuple[str, ...], index: Tensor) -> None:
    """Select the channels ``index`` (axis 0) in the tensors of the modules ``names``."""
    for name, value in list(weights.items()):
        if value.ndim and any(name == module or name.startswith(f"{module}.") for module in names):
            weights[name] = value[index]


def add_noise(
    weights: dict[str, Tensor], name: str, first: int, ratio: float, generator: torch.Generator
) -> None:
    """Add noise to the filters from index ``first`` on, so that copies don't stay equal."""
    if ratio:
        kernel = weights[name].clone()
        new = kernel[first:]
        noise = torch.randn(new.shape, generator=generator, dtype=torch.float64)
        kernel[first:] = new + (noise * ratio).to(kernel.dtype) * kernel.std()
        weights[name] = kernel


def shift_block_indices(weights: Weights, place: int, by: int = 1) -> dict[str, Tensor]:
    """Return the weights with the indices of the blocks from ``place`` on shifted by ``by``."""
    moved: dict[str, Tensor] = {}
    for name, value in weights.items():
        _, number, rest = name.split(".", 2)
        later = int(number) + by if int(number) >= place else int(number)
        moved[f"blocks.{later}.{rest}"] = value
    return moved


def move_block(net: Net, place: int, to: int) -> Net:
    """Move block ``place`` to index ``to``; the blocks in between shift."""
    order = list(range(len(net.blocks)))
    order.insert(to, order.pop(place))
    now = {old: new for new, old in enumerate(order)}
    weights: dict[str, Tensor] = {}
    for name, value in net.weights.items():
        _, number, rest = name.split(".", 2)
        weights[f"blocks.{now[int(number)]}.{rest}"] = value
    return net._replace(blocks=tuple(net.blocks[old] for old in order), weights=weights)


def replace_block(blocks: tuple[Block, ...], place: int, block: Block) -> tuple[Block, ...]:
    return (*blocks[:place], block, *blocks[place + 1 :])


def with_block(net: Net, place: int, block: Block, weights: Weights) -> Net:
    """Return ``net`` with another block at ``place``, and with the weights of the new network."""
    return net._replace(blocks=replace_block(net.blocks, place, block), weights=weights)


def with_inputs(block: Block, channels: int) -> Block:
    """Return ``block`` with ``channels`` input channels; a pool has as many output channels."""
    if block.op in ("max_pool", "avg_pool", "global_pool"):
        return msgspec.structs.replace(block, in_channels=channels, out_channels=channels)
    if block.op == "dense_layer":
        return msgspec.structs.replace(
            block, in_channels=channels, out_channels=channels + block.growth
        )
    return msgspec.structs.replace(block, in_channels=channels)


def check_larger(block: Block, place: int, what: str, old: float, new: float) -> None:
    """Raise `UsageError` unless ``new`` is larger than ``old``."""
    if new <= old:
        raise UsageError(
            f"block {place} ({block.key}) has {what} {old:g}: {new:g} is not larger, and a "
            "reduction would not preserve the function"
        )


def get_block(net: Net, place: int, ops: tuple[str, ...]) -> Block:
    """Return the block at ``place``. Raises `UsageError` if its op is not in ``ops``."""
    if not 0 <= place < len(net.blocks):
        raise UsageError(f"block {place} does not exist, the network has {len(net.blocks)} blocks")
    block = net.blocks[place]
    if block.op not in ops:
        raise UsageError(f"block {place} ({block.key}): expected {' or '.join(ops)} for this step")
    return block
