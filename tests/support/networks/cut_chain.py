"""Chains of blocks that are cut, with the weights of their members."""

from __future__ import annotations

import msgspec
from torch import Tensor

from hwnas.architecture.block import Block
from hwnas.nn.elastic.statistics import Statistics, collect, elastic_places
from hwnas.nn.network import Network
from tests.support.networks.trained_chain import smooth_images


def statistics_of(network: Network) -> Statistics:
    """Return the statistics that the closed forms need of a network, for images of 32 pixels."""
    return collect(network, smooth_images(32, 32).split(16), elastic_places(network))


def changed(
    blocks: tuple[Block, ...], place: int, **changes: float | str | bool
) -> tuple[Block, ...]:
    """Return the blocks with changed fields of one of them."""
    block = msgspec.structs.replace(blocks[place], **changes)
    return (*blocks[:place], block, *blocks[place + 1 :])


def member(blocks: tuple[Block, ...], weights: dict[str, Tensor]) -> Network:
    """Return the network of ``blocks`` with ``weights``, in float64 and evaluation mode."""
    network = Network(blocks).double().eval().requires_grad_(False)
    network.load_state_dict(weights)
    return network


def logits(blocks: tuple[Block, ...], weights: dict[str, Tensor]) -> Tensor:
    """Return the logits for images that were not used for the statistics."""
    return member(blocks, weights)(smooth_images(16, 32, seed=5))
