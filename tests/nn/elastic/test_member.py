"""Members of a trained network: what must stay the same, and what least squares must gain."""

from __future__ import annotations

import msgspec
import pytest
import torch
from torch import Tensor, nn

from hwnas.architecture.architecture import Block
from hwnas.architecture.size import strided
from hwnas.errors import UsageError
from hwnas.nn.elastic.channels import INNER, inner_channels, select_inner, strongest_gates
from hwnas.nn.elastic.member import ClosedForms, member_weights
from hwnas.nn.growth.shrink import narrower_expansion
from hwnas.nn.growth.transforms import net_of
from hwnas.nn.network import Network
from tests.support.networks.cut_chain import changed, member, statistics_of
from tests.support.networks.trained_chain import smooth_images, trained_network

BLOCKS = (
    Block("conv", 3, 8, 3, 2, 1, 32),
    Block("mbconv", 8, 8, 5, 1, 1, 16),
    Block("mbconv", 8, 12, 7, 2, 4, 16, padding="same"),
    Block("mbconv", 12, 12, 5, 1, 6, 8, activation="hswish", squeeze_excite=True),
    Block("fused_mbconv", 12, 12, 3, 1, 3, 8),
    Block("mbconv", 12, 12, 3, 1, 6, 8),
    Block("basic", 12, 12, 3, 1, 2, 8, activation="relu"),
    Block("bottleneck", 12, 16, 3, 2, 1, 8, activation="relu"),
    Block("bottleneck", 16, 16, 3, 1, 1, 4, "relu", True, squeezed=4, group_width=4),
    Block("uib", 16, 16, 5, 1, 3, 4, "relu", start_kernel_size=5),
    Block("uib", 16, 16, 1, 1, 3, 4, "relu", start_kernel_size=3),
    Block("depthwise_separable", 16, 16, 5, 1, 1, 4, "relu"),
    Block("logits", 16, 5, 1, 1, 1, 4),
)
PLAIN, GATED, FUSED, LAST, BASIC, BOTTLENECK, GROUPED, UNIVERSAL, STARTED, SEPARABLE = range(2, 12)
NARROWER = (PLAIN, GATED, FUSED, LAST, BASIC, BOTTLENECK, GROUPED, UNIVERSAL, STARTED)
PRODUCERS = {
    FUSED: ("dense",),
    BASIC: ("first",),
    BOTTLENECK: ("reduce", "spatial"),
    GROUPED: ("reduce", "spatial"),
    STARTED: ("expand",),
}


@pytest.fixture
def network() -> Network:
    return trained_network(BLOCKS)


def cut(place: int, **changes: float | str) -> tuple[Block, ...]:
    return changed(BLOCKS, place, **changes)


def skip(*places: int) -> tuple[Block, ...]:
    blocks = list(BLOCKS)
    for place in places:
        old = blocks[place]
        blocks[place] = Block("identity", old.in_channels, old.out_channels, 1, 1, 1, old.in_size)
    return tuple(blocks)


def outputs(
    blocks: tuple[Block, ...], weights: dict[str, Tensor], images: Tensor, end: int | None = None
) -> Tensor:
    """Return the output of the block before ``end``, by default the logits."""
    return member(blocks, weights).blocks[:end](images)


def norm(network: Network, layer: str) -> nn.BatchNorm2d:
    module = network.get_submodule(f"{layer}.norm")
    assert isinstance(module, nn.BatchNorm2d)
    return module


def test_the_whole_network_has_its_own_weights(network: Network) -> None:
    weights = member_weights(network, BLOCKS, BLOCKS, statistics_of(network))
    state = network.state_dict()
    assert weights.keys() == state.keys()
    assert all(value.data_ptr() == state[name].data_ptr() for name, value in weights.items())


def test_another_resolution_or_precision_changes_no_weights(network: Network) -> None:
    smaller = tuple(
        msgspec.structs.replace(block, in_size=strided(block.in_size, 2), precision="int8")
        for block in BLOCKS
    )
    weights = member_weights(network, BLOCKS, smaller, {})
    assert all(torch.equal(value, weights[name]) for name, value in network.state_dict().items())


@pytest.mark.parametrize("place", NARROWER)
@pytest.mark.parametrize(("dtype", "limit"), [(torch.float64, 1e-13), (torch.float32, 1e-5)])
def test_the_order_of_inner_channels_does_not_matter(
    network: Network, place: int, dtype: torch.dtype, limit: float
) -> None:
    network, images = network.to(dtype), smooth_images(4, 32).to(dtype)
    before = network(images)
    weights = dict(network.state_dict())
    block = BLOCKS[place]
    width = block.group_width or 1
    groups = torch.randperm(block.mid_channels // width, generator=torch.Generator().manual_seed(2))
    order = (groups[:, None] * width + torch.arange(width)).flatten()
    own = f"blocks.{place}.layers"
    for inner in inner_channels(block):
        gates = strongest_gates(weights, own, block.se_channels)
        select_inner(weights, own, inner, order, gates)
    network.load_state_dict(weights)
    assert (network(images) - before).abs().max() <= limit * before.abs().max()


@pytest.mark.parametrize("place", NARROWER)
def test_cutting_dead_channels_changes_nothing(network: Network, place: int) -> None:
    first = BLOCKS[place].group_width or 3  # the second group, or any channels
    dead = slice(first, first + BLOCKS[place].mid_channels // 4)
    ratio = BLOCKS[place].expand_ratio * 3 / 4
    for name in PRODUCERS.get(place, ("depthwise",)):
        layer = norm(network, f"blocks.{place}.layers.{name}")
        layer.weight[dead] = layer.bias[dead] = 0
    if place == GATED:  # the smaller block has fewer gates too
        network.state_dict()[f"blocks.{place}.layers.se.excite.weight"][:, 16:] = 0
    images, blocks = smooth_images(4, 32, seed=5), cut(place, expand_ratio=ratio)
    weights = member_weights(network, BLOCKS, blocks, statistics_of(network))
    torch.testing.assert_close(outputs(blocks, weights, images), network(images))


def test_constant_channels_are_made_up_for_by_the_mean(network: Network) -> None:
    layer = norm(network, f"blocks.{PLAIN}.layers.depthwise")
    layer.weight[5:21], layer.bias[5:21] = 0, 1.0
    images, blocks = smooth_images(4, 32, seed=5), cut(PLAIN, expand_ratio=2)
    weights = member_weights(network, BLOCKS, blocks, statistics_of(network))
    torch.testing.assert_close(outputs(blocks, weights, images), network(images))
    mean = f"blocks.{PLAIN}.layers.project.norm.running_mean"
    weights[mean] = network.state_dict()[mean]
    change = (outputs(blocks, weights, images) - network(images)).abs().max()
    assert change > 1e-3


def test_a_kernel_with_a_zero_ring_is_cut_without_a_change(network: Network) -> None:
    name = f"blocks.{PLAIN}.layers.depthwise.conv.weight"
    kernel = network.state_dict()[name]
    kernel[..., [0, 1, 5, 6], :] = kernel[..., [0, 1, 5, 6]] = 0
    images, blocks = smooth_images(4, 32, seed=5), cut(PLAIN, kernel_size=3)
    weights = member_weights(network, BLOCKS, blocks, statistics_of(network))
    torch.testing.assert_close(outputs(blocks, weights, images), network(images))


def test_skipping_a_block_whose_branch_is_zero_is_exact(network: Network) -> None:
    layer = norm(network, f"blocks.{LAST}.layers.project")
    layer.weight.zero_()
    layer.bias.zero_()
    images = smooth_images(4, 32, seed=5)
    weights = member_weights(network, BLOCKS, skip(LAST), statistics_of(network))
    torch.testing.assert_close(outputs(skip(LAST), weights, images), network(images))


def test_two_skips_are_the_same_in_either_order(network: Network) -> None:
    statistics = statistics_of(network)
    both = member_weights(network, BLOCKS, skip(GATED, LAST), statistics)
    for first in (GATED, LAST):
        between = Network(skip(first)).double()
        between.load_state_dict(member_weights(network, BLOCKS, skip(first), statistics))
        then = member_weights(between, skip(first), skip(GATED, LAST), statistics)
        assert then.keys() == both.keys()
        assert all(torch.equal(value, then[name]) for name, value in both.items())


@pytest.mark.parametrize(
    ("place", "changes"),
    [
        (PLAIN, {"expand_ratio": 2}),
        (PLAIN, {"kernel_size": 5}),
        (PLAIN, {"kernel_size": 3, "expand_ratio": 3}),
        (GATED, {"expand_ratio": 4}),
        (GATED, {"kernel_size": 3}),
        (FUSED, {"expand_ratio": 2}),
        (LAST, {"expand_ratio": 3}),
        (BASIC, {"expand_ratio": 1}),
        (BOTTLENECK, {"expand_ratio": 0.75}),
        (GROUPED, {"expand_ratio": 0.5}),
        (GROUPED, {"expand_ratio": 0.25, "group_width": 0}),
        (UNIVERSAL, {"expand_ratio": 2}),
        (UNIVERSAL, {"kernel_size": 3}),
        (UNIVERSAL, {"start_kernel_size": 3}),
        (UNIVERSAL, {"kernel_size": 3, "start_kernel_size": 3, "expand_ratio": 1.5}),
        (STARTED, {"expand_ratio": 1.5}),
        (SEPARABLE, {"kernel_size": 3}),
        (1, {"kernel_size": 3}),
    ],
)
def test_closed_forms_are_nearer_on_new_images_than_sorted_and_cropped_blocks(
    network: Network, place: int, changes: dict[str, float]
) -> None:
    images, blocks = smooth_images(16, 32, seed=5), cut(place, **changes)
    expected = network.blocks[: place + 1](images)
    solved = member_weights(network, BLOCKS, blocks, statistics_of(network))
    plain = member_weights(network, BLOCKS, blocks, {})
    errors = [
        (outputs(blocks, weights, images, place + 1) - expected).square().mean()
        for weights in (solved, plain)
    ]
    assert 0 < errors[0] < 0.9 * errors[1]


@pytest.mark.parametrize("place", [PLAIN, GATED])
def test_without_statistics_the_cut_is_that_of_once_for_all(network: Network, place: int) -> None:
    ratio = BLOCKS[place].expand_ratio / 2
    expected = narrower_expansion(net_of(BLOCKS, network), place, ratio)
    weights = member_weights(network, BLOCKS, cut(place, expand_ratio=ratio), {})
    assert weights.keys() == expected.weights.keys()
    assert all(torch.equal(value, expected.weights[name]) for name, value in weights.items())


def test_channels_of_two_widths_are_nested_and_ascending(network: Network) -> None:
    closed = ClosedForms(network, BLOCKS, statistics_of(network))
    sets = [closed.channels(LAST, width, INNER["mbconv"][0]).tolist() for width in (12, 24, 48)]
    assert all(channels == sorted(channels) for channels in sets)
    assert set(sets[0]) < set(sets[1]) < set(sets[2])


@pytest.mark.parametrize(
    "blocks",
    [
        cut(PLAIN, expand_ratio=5),
        cut(GROUPED, expand_ratio=0.875),
        cut(GROUPED, expand_ratio=0.5, group_width=8),
        cut(GROUPED, group_width=0),
        cut(BOTTLENECK, group_width=3),
        cut(UNIVERSAL, start_kernel_size=0),
        cut(UNIVERSAL, start_kernel_size=7),
        cut(UNIVERSAL, kernel_size=1),
        cut(STARTED, kernel_size=3),
        cut(SEPARABLE, kernel_size=1),
        cut(PLAIN, kernel_size=9),
        cut(PLAIN, kernel_size=4),
        cut(PLAIN, expand_ratio=1),
        cut(PLAIN, stride=1),
        cut(PLAIN, activation="relu"),
        cut(1, expand_ratio=0.5),
        cut(FUSED, kernel_size=1),
        cut(0, out_channels=4),
        cut(BASIC, kernel_size=1),
        cut(BOTTLENECK, expand_ratio=2),
        skip(PLAIN),
    ],
    ids=lambda blocks: " | ".join(b.key for b, old in zip(blocks, BLOCKS, strict=True) if b != old),
)
def test_a_block_that_cannot_be_cut_is_an_error(
    network: Network, blocks: tuple[Block, ...]
) -> None:
    [(place, new)] = [(n, block) for n, block in enumerate(blocks) if block != BLOCKS[n]]
    with pytest.raises(UsageError) as error:
        member_weights(network, BLOCKS, blocks, {})
    message = str(error.value)
    assert f"block {place} ({BLOCKS[place].key})" in message and new.key in message


def test_a_member_has_as_many_blocks(network: Network) -> None:
    with pytest.raises(UsageError, match="13 blocks has as many, not 12"):
        member_weights(network, BLOCKS, BLOCKS[:-1], {})
