"""Blocks of SENet with fewer inner channels: the squeeze-excite of their output stays."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from hwnas.architecture.block import Block
from hwnas.nn.elastic.member import ClosedForms
from hwnas.nn.elastic.refit import refit_front_to_back
from hwnas.nn.network import Network
from tests.support.networks.cut_chain import changed, logits, statistics_of
from tests.support.networks.trained_chain import smooth_images, trained_network

BLOCKS = (
    Block("conv", 3, 16, 3, 2, 1, 32, "relu"),
    Block("basic_se", 16, 16, 3, 1, 1.5, 16, "relu", True, gate="sigmoid", squeezed=3),
    Block("bottleneck_se", 16, 24, 3, 2, 1.5, 16, "relu", True, gate="sigmoid", group_width=4),
    Block("logits", 24, 5, 1, 1, 1, 8),
)
GATED = 1, 2


@pytest.fixture
def network() -> Network:
    return trained_network(BLOCKS)


def narrower(place: int) -> tuple[Block, ...]:
    """Return the blocks with two thirds of the inner channels of a block."""
    return changed(BLOCKS, place, expand_ratio=1)


@pytest.mark.parametrize("place", GATED)
def test_cutting_channels_that_are_always_zero_changes_nothing(
    network: Network, place: int
) -> None:
    layer = "first" if place == 1 else "spatial"
    norm = network.get_submodule(f"blocks.{place}.layers.{layer}.norm")
    assert isinstance(norm, nn.BatchNorm2d)
    norm.weight[8:16], norm.bias[8:16] = 0, 0
    expected = logits(BLOCKS, dict(network.state_dict()))
    closed = ClosedForms(network, BLOCKS, statistics_of(network))
    torch.testing.assert_close(logits(narrower(place), closed.member(narrower(place))), expected)


@pytest.mark.parametrize("place", GATED)
def test_a_gated_branch_is_not_solved_again(network: Network, place: int) -> None:
    closed, blocks = ClosedForms(network, BLOCKS, statistics_of(network)), narrower(place)
    before = closed.member(blocks)
    after = refit_front_to_back(closed, blocks, smooth_images(16, 32).split(8))
    for key in (key for key in before if key.startswith(f"blocks.{place}.")):
        torch.testing.assert_close(after[key], before[key])
