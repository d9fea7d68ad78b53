"""Units of ShuffleNet with fewer inner channels."""

from __future__ import annotations

import pytest
import torch

from hwnas.architecture.block import Block
from hwnas.nn.elastic.channels import inner_channels, select_inner
from hwnas.nn.elastic.member import member_weights
from hwnas.nn.network import Network
from tests.support.networks.cut_chain import changed, member, statistics_of
from tests.support.networks.trained_chain import smooth_images, trained_network

BLOCKS = (
    Block("conv", 3, 16, 3, 2, 1, 32, "relu"),
    Block("shuffle_unit", 16, 24, 3, 2, 1.5, 16, "relu"),
    Block("shuffle_unit", 24, 24, 3, 1, 1, 8, "relu"),
    Block("logits", 24, 5, 1, 1, 1, 8),
)
UNITS = 1, 2


@pytest.fixture
def network() -> Network:
    return trained_network(BLOCKS)


def narrower(place: int) -> tuple[Block, ...]:
    """Return the blocks with two thirds of the inner channels of one."""
    return changed(BLOCKS, place, expand_ratio=BLOCKS[place].expand_ratio * 2 / 3)


def outputs(
    blocks: tuple[Block, ...], weights: dict[str, torch.Tensor], place: int
) -> torch.Tensor:
    return member(blocks, weights).blocks[: place + 1](smooth_images(16, 32, seed=5))


@pytest.mark.parametrize("place", UNITS)
def test_the_order_of_inner_channels_does_not_matter(network: Network, place: int) -> None:
    images = smooth_images(4, 32)
    before, weights = network(images), dict(network.state_dict())
    [inner] = inner_channels(BLOCKS[place])
    order = torch.randperm(24, generator=torch.Generator().manual_seed(2))
    select_inner(weights, f"blocks.{place}.layers", inner, order)
    network.load_state_dict(weights)
    torch.testing.assert_close(network(images), before)


@pytest.mark.parametrize("place", UNITS)
def test_cutting_constant_channels_changes_nothing(network: Network, place: int) -> None:
    norm = network.get_submodule(f"blocks.{place}.layers.depthwise.norm")
    assert isinstance(norm, torch.nn.BatchNorm2d)
    norm.weight[3:11], norm.bias[3:11] = 0, 0.5
    expected = outputs(BLOCKS, dict(network.state_dict()), place)
    weights = member_weights(network, BLOCKS, narrower(place), statistics_of(network))
    torch.testing.assert_close(outputs(narrower(place), weights, place), expected)


@pytest.mark.parametrize("place", UNITS)
def test_closed_forms_are_nearer_on_new_images_than_sorted_channels(
    network: Network, place: int
) -> None:
    expected, blocks = outputs(BLOCKS, dict(network.state_dict()), place), narrower(place)
    solved, plain = (
        (outputs(blocks, member_weights(network, BLOCKS, blocks, statistics), place) - expected)
        for statistics in (statistics_of(network), {})
    )
    assert 0 < solved.square().mean() < 0.5 * plain.square().mean()
