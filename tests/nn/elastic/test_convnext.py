"""Blocks of ConvNeXt with fewer inner channels and smaller kernels."""

from __future__ import annotations

from typing import Any

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
    Block("conv_bn", 3, 16, 2, 2, 1, 32),
    Block("layer_norm", 16, 16, 1, 1, 1, 16),
    Block("convnext", 16, 16, 7, 1, 3, 16, "gelu"),
    Block("convnext", 16, 16, 7, 1, 3, 16, "gelu"),
    Block("global_pool", 16, 16, 1, 1, 1, 16),
    Block("logits", 16, 5, 1, 1, 1, 1),
)
PLACE = 2


@pytest.fixture
def network() -> Network:
    return trained_network(BLOCKS)


def with_cut(**fields: Any) -> tuple[Block, ...]:
    """Return the blocks of which the first of ConvNeXt has other fields."""
    return changed(BLOCKS, PLACE, **fields)


NARROWER, SMALLER = with_cut(expand_ratio=2), with_cut(kernel_size=5)


def test_cutting_constant_channels_changes_nothing(network: Network) -> None:
    norm = network.get_submodule(f"blocks.{PLACE}.layers.expand.norm")
    assert isinstance(norm, nn.BatchNorm2d)
    norm.weight[8:24] = 0
    expected = logits(BLOCKS, dict(network.state_dict()))
    closed = ClosedForms(network, BLOCKS, statistics_of(network))
    torch.testing.assert_close(logits(NARROWER, closed.member(NARROWER)), expected)


def test_a_smaller_kernel_with_zeros_around_is_the_same(network: Network) -> None:
    conv = network.get_submodule(f"blocks.{PLACE}.layers.depthwise.conv")
    assert isinstance(conv, nn.Conv2d)
    inner = conv.weight[:, :, 1:-1, 1:-1].clone()
    conv.weight.zero_()
    conv.weight[:, :, 1:-1, 1:-1] = inner
    expected = logits(BLOCKS, dict(network.state_dict()))
    closed = ClosedForms(network, BLOCKS, statistics_of(network))
    torch.testing.assert_close(logits(SMALLER, closed.member(SMALLER)), expected)


@pytest.mark.parametrize("blocks", [NARROWER, SMALLER], ids=["narrower", "smaller kernel"])
def test_closed_forms_are_nearer_on_new_images_than_plain_cuts(
    network: Network, blocks: tuple[Block, ...]
) -> None:
    expected = logits(BLOCKS, dict(network.state_dict()))
    closed = ClosedForms(network, BLOCKS, statistics_of(network))
    plain = ClosedForms(network, BLOCKS, {})
    errors = [
        (logits(blocks, weights) - expected).square().mean()
        for weights in (
            closed.member(blocks),
            refit_front_to_back(closed, blocks, smooth_images(32, 32).split(16)),
            plain.member(blocks),
        )
    ]
    assert 0 < max(errors[:2]) < 0.5 * errors[2]


def test_a_block_may_be_left_out(network: Network) -> None:
    skip = Block("identity", 16, 16, 1, 1, 1, 16)
    blocks = (*BLOCKS[:PLACE], skip, *BLOCKS[PLACE + 1 :])
    weights = ClosedForms(network, BLOCKS, statistics_of(network)).member(blocks)
    images = smooth_images(16, 32, seed=5)
    without = nn.Sequential(*(b for n, b in enumerate(network.blocks) if n != PLACE))
    torch.testing.assert_close(logits(blocks, weights), without(images))
