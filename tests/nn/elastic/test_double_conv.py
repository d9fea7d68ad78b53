"""Pairs of convolutions with fewer channels between them."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from hwnas.architecture.block import Block
from hwnas.nn.elastic.member import member_weights
from hwnas.nn.elastic.statistics import elastic_places
from hwnas.nn.network import Network
from tests.support.networks.cut_chain import changed, logits, statistics_of
from tests.support.networks.trained_chain import trained_network

BLOCKS = (
    Block("double_conv", 3, 16, 3, 2, 4, 32, "relu"),
    Block("max_pool", 16, 16, 3, 2, 1, 16, padding=0),
    Block("double_conv", 16, 24, 3, 1, 1.5, 7, "relu"),
    Block("hidden", 24, 12, 3, 1, 1, 7, "relu"),
    Block("logits", 12, 5, 1, 1, 1, 1),
)
PAIRS = 0, 2


@pytest.fixture
def network() -> Network:
    return trained_network(BLOCKS)


def narrower(place: int) -> tuple[Block, ...]:
    """Return the blocks with two thirds of the inner channels of a pair."""
    return changed(BLOCKS, place, expand_ratio=BLOCKS[place].expand_ratio * 2 / 3)


def test_pairs_are_elastic(network: Network) -> None:
    assert elastic_places(network) == PAIRS


@pytest.mark.parametrize("place", PAIRS)
def test_cutting_channels_that_are_always_zero_changes_nothing(
    network: Network, place: int
) -> None:
    norm = network.get_submodule(f"blocks.{place}.layers.first.norm")
    assert isinstance(norm, nn.BatchNorm2d)
    count = BLOCKS[place].mid_channels // 3
    norm.weight[:count], norm.bias[:count] = 0, 0
    expected = logits(BLOCKS, dict(network.state_dict()))
    weights = member_weights(network, BLOCKS, narrower(place), statistics_of(network))
    torch.testing.assert_close(logits(narrower(place), weights), expected)


@pytest.mark.parametrize("place", PAIRS)
def test_closed_forms_are_nearer_on_new_images_than_sorted_channels(
    network: Network, place: int
) -> None:
    expected, blocks = logits(BLOCKS, dict(network.state_dict())), narrower(place)
    solved, plain = (
        (logits(blocks, member_weights(network, BLOCKS, blocks, statistics)) - expected)
        for statistics in (statistics_of(network), {})
    )
    assert 0 < solved.square().mean() < 0.5 * plain.square().mean()
