"""Projections that are solved again behind cuts, with the outputs of the trained network."""

from __future__ import annotations

import msgspec
import pytest
import torch
from torch import Tensor

from hwnas.architecture.architecture import Block
from hwnas.nn.elastic.member import ClosedForms
from hwnas.nn.elastic.refit import refit_front_to_back, refit_projection
from hwnas.nn.elastic.statistics import PixelSampler, collect, elastic_places
from hwnas.nn.network import Network
from tests.support.networks.trained_chain import smooth_images, trained_network

BLOCKS = (
    Block("conv", 3, 8, 3, 2, 1, 16),
    Block("mbconv", 8, 8, 5, 1, 4, 8),
    Block("mbconv", 8, 8, 3, 1, 4, 8, squeeze_excite=True),
    Block("fused_mbconv", 8, 12, 3, 2, 3, 8),
    Block("mbconv", 12, 12, 3, 1, 4, 4),
    Block("logits", 12, 5, 1, 1, 1, 4),
)
NARROW = msgspec.structs.replace(BLOCKS[1], expand_ratio=2, kernel_size=3)
SKIP = {
    place: Block("identity", channels, channels, 1, 1, 1, size)
    for place, channels, size in ((2, 8, 8), (4, 12, 4))
}


RESIDUAL = (
    Block("conv", 3, 8, 3, 2, 1, 16),
    Block("bottleneck", 8, 12, 3, 1, 2, 8, "relu"),
    Block("bottleneck", 12, 12, 3, 1, 2, 8, "relu", True, squeezed=4, group_width=6),
    Block("bottleneck", 12, 16, 3, 2, 1, 8, "relu"),
    Block("uib", 16, 16, 5, 1, 3, 4, "relu", start_kernel_size=3),
    Block("logits", 16, 5, 1, 1, 1, 4),
)


def with_blocks(changes: dict[int, Block]) -> tuple[Block, ...]:
    return tuple(changes.get(place, block) for place, block in enumerate(BLOCKS))


def closed_forms(network: Network) -> ClosedForms:
    images = smooth_images(64, 16)
    return ClosedForms(network, BLOCKS, collect(network, [images], elastic_places(network)))


def error(network: Network, blocks: tuple[Block, ...], weights: dict[str, Tensor]) -> float:
    """Mean squared difference of the features before the logits, on new images."""
    member = Network(blocks).double().eval().requires_grad_(False)
    member.load_state_dict(weights)
    images = smooth_images(64, 16, seed=9)
    return (member.blocks[:-1](images) - network.blocks[:-1](images)).square().mean().item()


@pytest.mark.parametrize(
    "changes",
    [{1: NARROW}, {2: SKIP[2]}, {4: SKIP[4]}, {1: NARROW, 2: SKIP[2], 4: SKIP[4]}],
    ids=["narrow", "skip", "skip last", "all"],
)
def test_refitting_is_nearer_to_the_trained_network_on_new_images(
    changes: dict[int, Block],
) -> None:
    network, blocks = trained_network(BLOCKS), with_blocks(changes)
    closed = closed_forms(network)
    before = error(network, blocks, closed.member(blocks))
    weights = refit_front_to_back(closed, blocks, smooth_images(256, 16).split(64))
    assert 0 < error(network, blocks, weights) < 0.9 * before


def test_the_whole_network_keeps_its_weights_to_the_bit() -> None:
    network = trained_network(BLOCKS)
    weights = refit_front_to_back(closed_forms(network), BLOCKS, [smooth_images(8, 16)])
    assert all(torch.equal(value, weights[name]) for name, value in network.state_dict().items())


def test_blocks_before_the_first_cut_keep_their_weights() -> None:
    network, blocks = trained_network(BLOCKS), with_blocks({4: SKIP[4]})
    weights = refit_front_to_back(closed_forms(network), blocks, [smooth_images(64, 16)])
    changed = {
        name
        for name, value in network.state_dict().items()
        if name in weights and not torch.equal(value, weights[name])
    }
    project = "blocks.3.layers.project"
    assert changed == {f"{project}.conv.weight", f"{project}.norm.running_mean"}


@pytest.mark.parametrize("place", [1, 3])
def test_the_targets_of_another_projection_are_met(place: int) -> None:
    network, other = trained_network(BLOCKS), trained_network(BLOCKS)
    project = other.state_dict()[f"blocks.{place}.layers.project.conv.weight"]
    project += 0.1 * torch.randn_like(project)
    features = network.blocks[:place](smooth_images(64, 16))
    targets = other.blocks[place](features)
    block = network.blocks[place]
    refit_projection(block, [features], [targets], PixelSampler(0), pixels=10**6, ridge=1e-12)
    torch.testing.assert_close(block(features), targets, atol=1e-5, rtol=1e-5)


def test_outputs_without_gain_are_left_as_they_are() -> None:
    network = trained_network(BLOCKS)
    block = network.blocks[3]
    state = block.state_dict()
    state["layers.project.norm.weight"][2] = 0
    before = state["layers.project.conv.weight"][2].clone()
    features = network.blocks[:3](smooth_images(64, 16))
    targets = block(features) + 0.1
    refit_projection(block, [features], [targets], PixelSampler(0))
    assert torch.equal(state["layers.project.conv.weight"][2], before)
    difference = (block(features) - targets).abs().amax((0, 2, 3))
    assert difference[2] > 0.09 and difference[[0, 1, 3]].max() < 1e-6


@pytest.mark.parametrize(
    "changes",
    [
        {1: msgspec.structs.replace(RESIDUAL[1], expand_ratio=1)},
        {2: msgspec.structs.replace(RESIDUAL[2], expand_ratio=1)},
        {2: Block("identity", 12, 12, 1, 1, 1, 8)},
        {4: msgspec.structs.replace(RESIDUAL[4], expand_ratio=1.5, kernel_size=3)},
    ],
    ids=["narrow", "fewer groups", "skip", "universal"],
)
def test_bottlenecks_are_solved_for_the_sum_before_their_activation(
    changes: dict[int, Block],
) -> None:
    network = trained_network(RESIDUAL)
    images = smooth_images(64, 16)
    statistics = collect(network, [images], elastic_places(network))
    closed = ClosedForms(network, RESIDUAL, statistics)
    blocks = tuple(changes.get(place, block) for place, block in enumerate(RESIDUAL))
    before = error(network, blocks, closed.member(blocks))
    weights = refit_front_to_back(closed, blocks, smooth_images(256, 16).split(64))
    assert 0 < error(network, blocks, weights) < 0.95 * before
