"""The networks that can be cut from a trained one."""

from __future__ import annotations

from random import Random

import msgspec
import pytest
import torch

from hwnas.architecture.architecture import Architecture, Block, Genotype
from hwnas.architecture.size import axes
from hwnas.errors import UsageError
from hwnas.nn.build import build
from hwnas.spaces.elastic.space import ElasticSpace, elastic_space


def trained(size: int = 64) -> Architecture:
    """A network with a strided block, one with a shortcut and one without expansion."""
    half = (size + 1) // 2
    quarter = (half + 1) // 2
    blocks = (
        Block("conv", 3, 16, 3, 2, 1, size),
        Block("mbconv", 16, 16, 3, 1, 1, half),
        Block("mbconv", 16, 24, 5, 2, 6, half),
        Block("mbconv", 24, 24, 5, 1, 6, quarter),
        Block("conv", 24, 48, 1, 1, 1, quarter),
        Block("logits", 48, 10, 1, 1, 1, quarter),
    )
    return Architecture(Genotype("trained", ()), blocks, (3, size, size), 10)


@pytest.fixture(scope="module")
def space() -> ElasticSpace:
    return elastic_space("tiny", trained())


def test_the_largest_network_is_the_trained_network(space: ElasticSpace) -> None:
    assert space.architecture(space.largest).blocks == trained().blocks


def test_a_block_can_be_left_out_only_where_it_has_a_shortcut(space: ElasticSpace) -> None:
    can_skip = [any(cut.skipped for cut in cuts) for cuts in space.cuts]
    assert can_skip == [False, True, False, True, False, False]


def test_a_block_without_expansion_has_no_inner_channels_to_cut(space: ElasticSpace) -> None:
    assert [cut.name for cut in space.cuts[1]] == ["keep", "skip"]


def test_cuts_leave_sixths_of_the_inner_channels_and_smaller_kernels(space: ElasticSpace) -> None:
    names = [cut.name for cut in space.cuts[2]]
    assert names[:4] == ["keep", "5/6 width", "4/6 width", "3/6 width"]
    assert names[4:] == [
        "smaller kernel",
        "5/6 width, smaller kernel",
        "4/6 width, smaller kernel",
        "3/6 width, smaller kernel",
    ]
    blocks = [space.block(0, 2, candidate) for candidate in range(8)]
    assert [block.mid_channels for block in blocks] == [96, 80, 64, 48] * 2
    assert [block.kernel_size for block in blocks] == [5] * 4 + [3] * 4


def test_a_kernel_of_7_can_be_of_5_or_3() -> None:
    blocks = (
        Block("conv", 3, 8, 3, 2, 1, 64),
        Block("mbconv", 8, 8, 7, 1, 6, 32),
        Block("logits", 8, 10, 1, 1, 1, 32),
    )
    space = elastic_space("seven", Architecture(Genotype("seven", ()), blocks, (3, 64, 64), 10))
    names = [cut.name for cut in space.cuts[1]]
    assert names[8:] == [
        "smallest kernel",
        "5/6 width, smallest kernel",
        "4/6 width, smallest kernel",
        "3/6 width, smallest kernel",
        "skip",
    ]
    sizes = [space.block(0, 1, candidate).kernel_size for candidate in range(12)]
    assert sizes == [7] * 4 + [5] * 4 + [3] * 4


def test_the_resolution_changes_the_size_of_every_block(space: ElasticSpace) -> None:
    assert space.sizes == (64, 56, 48, 40, 32)
    network = space.architecture(space.genotype(2))
    assert network.input_shape == (3, 48, 48)
    assert [block.in_size for block in network.blocks] == [48, 24, 24, 12, 12, 12]


@pytest.mark.parametrize("padding", ["symmetric", "same"])
def test_blocks_say_the_sizes_of_their_images_also_where_a_stride_halves_an_odd_size(
    padding: str,
) -> None:
    strided = [Block("mbconv", 24, 24, kernel, 2, 6, size) for kernel, size in ((5, 18), (3, 9))]
    blocks = (*trained(72).blocks[:-2], *strided, Block("logits", 24, 10, 1, 1, 1, 5))
    padded = tuple(
        msgspec.structs.replace(block, padding=padding) if block.stride == 2 else block
        for block in blocks
    )
    space = elastic_space("whole", Architecture(Genotype("whole", ()), padded, (3, 72, 72), 10))
    assert space.sizes == (72, 64, 56, 48, 40, 32)
    for original in space.originals:
        features = torch.zeros(1, *original.input_shape)
        for block, module in zip(original.blocks, build(original).eval().blocks, strict=True):
            assert features.shape[2:] == axes(block.in_size)
            features = module(features)
        assert features.shape == (1, 10)


def test_the_smallest_network_has_the_fewest_macs(space: ElasticSpace) -> None:
    macs = [space.architecture(space.random(Random(seed))).macs for seed in range(50)]
    assert space.architecture(space.smallest).macs <= min(macs)
    assert space.architecture(space.largest).macs >= max(macs)


def test_sites_are_the_blocks_of_three_resolutions() -> None:
    wide = elastic_space("wide", trained(160))
    blocks = {site.block for site in wide.sites()}
    assert {block.in_size for block in blocks if block.in_channels == 3} == {160, 112, 64}
    for seed in range(20):
        genotype = wide.random(Random(seed))
        for size in (0, 6, 12):
            choices = (size, *genotype.choices[1:])
            assert set(wide.architecture(Genotype("wide", choices)).blocks) <= blocks


def test_sampled_networks_reach_from_the_smallest_to_the_largest(space: ElasticSpace) -> None:
    sample = space.sample_sizes(9, Random(0))
    assert len(set(sample)) == 9
    macs = [space.architecture(genotype).macs for genotype in sample]
    assert sample[0] == space.smallest and sample[-1] == space.largest
    assert macs[0] < macs[4] < macs[8]


def test_a_space_of_resolutions_only_is_sampled_whole() -> None:
    blocks = (
        Block("conv", 3, 8, 3, 2, 1, 64, "relu"),
        Block("dense_layer", 8, 12, 3, 1, 4, 32, "relu"),
        Block("norm_logits", 12, 5, 1, 1, 1, 32, "relu"),
    )
    original = Architecture(Genotype("dense", ()), blocks, (3, 64, 64), 5)
    space = elastic_space("dense", original)
    assert space.elastic == () and space.size == len(space.sizes) == 5
    assert len(set(space.sample_sizes(9, Random(0)))) == 5
    assert next(iter(space.baselines())).architecture.blocks == blocks


def test_the_size_counts_every_combination(space: ElasticSpace) -> None:
    assert space.size == 5 * 2 * 8 * 9


def test_neighbours_differ_in_one_decision(space: ElasticSpace) -> None:
    genotype = space.random(Random(1))
    neighbours = list(space.neighbours(genotype))
    assert len(neighbours) == 4 + 1 + 7 + 8
    for neighbour in neighbours:
        pairs = zip(neighbour.choices, genotype.choices, strict=True)
        assert sum(a != b for a, b in pairs) == 1


def test_baselines_are_the_whole_network_at_each_resolution(space: ElasticSpace) -> None:
    baselines = list(space.baselines())
    names = [f"tiny at {size}" for size in (64, 56, 48, 40, 32)]
    assert [baseline.name for baseline in baselines] == names
    assert {baseline.origin for baseline in baselines} == {"resolution"}


def test_a_network_of_which_nothing_can_be_cut_is_refused() -> None:
    blocks = (Block("conv", 3, 8, 3, 2, 1, 32), Block("logits", 8, 10, 1, 1, 1, 16))
    plain = Architecture(Genotype("plain", ()), blocks, (3, 32, 32), 10)
    with pytest.raises(UsageError, match="plain: nothing of this network can be cut"):
        elastic_space("plain", plain)


def test_a_cut_never_leaves_as_many_inner_channels_as_the_block_has_inputs() -> None:
    blocks = (
        Block("conv", 3, 16, 3, 2, 1, 64),
        Block("mbconv", 16, 16, 3, 1, 2, 32),
        Block("logits", 16, 10, 1, 1, 1, 32),
    )
    space = elastic_space("twice", Architecture(Genotype("", ()), blocks, (3, 64, 64), 10))
    names = [cut.name for cut in space.cuts[1]]
    assert names == ["keep", "5/6 width", "skip"]


def test_blocks_of_resnet_lose_inner_channels_at_any_ratio_and_groups_stay_whole() -> None:
    blocks = (
        Block("conv", 3, 48, 3, 2, 1, 64, "relu"),
        Block("basic", 48, 48, 3, 1, 1, 32, "relu"),
        Block("bottleneck", 48, 48, 3, 1, 1, 32, "relu", group_width=16),
        Block("logits", 48, 10, 1, 1, 1, 32),
    )
    space = elastic_space("residual", Architecture(Genotype("", ()), blocks, (3, 64, 64), 10))
    inner = [
        [space.block(0, place, candidate).mid_channels for candidate in range(len(cuts))][:-1]
        for place, cuts in enumerate(space.cuts)
    ]
    assert inner[1] == [48, 40, 32, 24]
    assert inner[2] == [48, 32]  # of three groups of 16 channels
    assert [cuts[-1].name for cuts in space.cuts[1:3]] == ["skip", "skip"]
