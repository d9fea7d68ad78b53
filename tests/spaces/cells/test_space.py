"""The space of cells: published counts, shapes, and costs that add up to the network's."""

from __future__ import annotations

from collections import Counter
from itertools import islice
from random import Random

import msgspec
import pytest

from hwnas.architecture.architecture import Architecture, Block, Genotype
from hwnas.architecture.graph import IMAGE
from hwnas.errors import UsageError
from hwnas.nn.auxiliary import auxiliary_place
from hwnas.spaces.cells.genotype import (
    Cell,
    CellGenotype,
    Edge,
    published_cells,
    published_genotype,
)
from hwnas.spaces.cells.layout import Norm
from hwnas.spaces.cells.space import CellSpace, cell_space
from hwnas.spaces.space import SearchSpace
from tests.support.networks.published_cells import COUNTS, Counts

CIFAR = cell_space((3, 32, 32), 10, channels=36, layers=20)
IMAGENET = cell_space((3, 224, 224), 1000, channels=48, layers=14)
SMALL = cell_space((3, 32, 32), 10, channels=8, layers=5)
SKIP = Edge("skip_connect", 1)
every_published = pytest.mark.parametrize("name", COUNTS)


def norms(space: CellSpace, norm: Norm) -> CellSpace:
    return msgspec.structs.replace(space, norm=norm)


@every_published
def test_published_cells_have_their_counts(name: str) -> None:
    genotype, counts = published_genotype(name), COUNTS[name]
    cifar, imagenet = CIFAR.architecture(genotype), IMAGENET.architecture(genotype)
    assert (
        Counts(
            cifar.params,
            cifar.macs if counts.cifar_macs else None,
            norms(CIFAR, "pool").architecture(genotype).params,
            norms(CIFAR, "pool and skip").architecture(genotype).params,
            imagenet.params,
            imagenet.macs if counts.imagenet_macs else None,
            SMALL.architecture(genotype).params,
        )
        == counts
    )


def test_one_separable_and_one_dilated_convolution_have_the_counts_of_the_formulas() -> None:
    assert Block("sep_conv", 36, 36, 3, 1, 1, 32, "relu").params == 3384
    assert Block("dil_conv", 36, 36, 5, 1, 1, 32, "relu").params == 2268
    assert Block("conv_bn", 3, 108, 3, 1, 1, 32).params == 87 * 36
    assert Block("factorized_reduce", 36, 36, 1, 2, 1, 32, "relu").params == 36**2 + 2 * 36


def test_the_stem_for_small_images_is_both_inputs_of_the_first_cell() -> None:
    network = SMALL.architecture(published_genotype("DARTS_V2"))
    assert network.blocks[0] == Block("conv_bn", 3, 24, 3, 1, 1, 32)
    first = Block("relu_conv_bn", 24, 8, 1, 1, 1, 32, "relu")
    assert network.blocks[1:3] == (first, first)
    assert network.inputs[:3] == ((IMAGE,), (0,), (0,))


def test_the_stem_for_large_images_gives_two_sizes_so_the_first_cell_halves_one() -> None:
    network = IMAGENET.architecture(published_genotype("DARTS_V2"))
    assert network.blocks[:5] == (
        Block("conv", 3, 24, 3, 2, 1, 224, "relu"),
        Block("conv_bn", 24, 48, 3, 2, 1, 112),
        Block("relu_conv_bn", 48, 48, 3, 2, 1, 56, "relu"),
        Block("factorized_reduce", 48, 48, 1, 2, 1, 56, "relu"),
        Block("relu_conv_bn", 48, 48, 1, 1, 1, 28, "relu"),
    )
    assert network.inputs[:5] == ((IMAGE,), (0,), (1,), (1,), (2,))


def test_the_stem_follows_from_the_size_of_the_images() -> None:
    assert cell_space((3, 96, 96), 10).stem == "cifar"
    assert cell_space((3, 128, 128), 10).stem == "imagenet"
    assert cell_space((3, 32, 32), 10, stem="imagenet").stem == "imagenet"


def test_a_third_and_two_thirds_down_size_halves_and_width_doubles() -> None:
    assert [place.reduction for place in CIFAR.places].index(True) == 20 // 3
    reductions = [number for number, place in enumerate(CIFAR.places) if place.reduction]
    assert reductions == [6, 13]
    shapes = Counter((place.channels, place.out_size) for place in CIFAR.places)
    assert shapes == {(36, 32): 6, (72, 16): 7, (144, 8): 7}


def test_edges_from_a_cells_inputs_have_stride_2_in_a_reduction_and_others_1() -> None:
    edges = tuple(
        tuple(Edge("sep_conv_3x3", source) for source in pair) for pair in [(0, 1), (0, 2)]
    )
    cell = Cell(edges, (2, 3))
    network = cell_space((3, 8, 8), 10, 4, 1).architecture(CellGenotype(cell, cell))
    strides = [(b.stride, b.in_size) for b in network.blocks if b.op == "sep_conv"]
    assert strides == [(2, 8), (2, 8), (2, 8), (1, 4)]


def test_a_skip_costs_nothing_unless_it_halves() -> None:
    cell = Cell(((Edge("skip_connect", 0), Edge("skip_connect", 1)),), (2,))
    ops = [b.op for b in SMALL.architecture(CellGenotype(cell, cell)).blocks]
    assert ops.count("identity") == 2 * 3
    # two in each of two reductions, and before each of the two cells after them
    assert ops.count("factorized_reduce") == 2 * 2 + 2


def test_a_node_of_one_operation_is_not_summed_and_one_of_none_is_zero() -> None:
    cell = Cell(((Edge("max_pool_3x3", 0),), (), (Edge("skip_connect", 3), SKIP)), (2, 3, 4))
    network = cell_space((3, 8, 8), 10, 4, 3).architecture(CellGenotype(cell, cell))
    ops = [b.op for b in network.blocks[1 : 1 + 7]]
    assert ops == [
        "relu_conv_bn", "relu_conv_bn", "max_pool", "none", "identity", "identity", "add",
    ]  # fmt: skip


def test_an_input_that_no_edge_takes_is_not_preprocessed() -> None:
    cell = Cell(((SKIP, Edge("sep_conv_3x3", 1)),), (2,))
    network = cell_space((3, 8, 8), 10, 4, 3).architecture(CellGenotype(cell, cell))
    assert [b.op for b in network.blocks].count("relu_conv_bn") == 3


def test_an_image_too_odd_to_be_halved_says_which_cell_and_size() -> None:
    with pytest.raises(UsageError, match=r"cell 6 of 8 halves 15 px, which is odd \(images of 30"):
        cell_space((3, 30, 30), 10)


@pytest.mark.parametrize(
    ("given", "message"),
    [
        (((3, 32, 26), 10), "halves 16x13 px, which is odd"),
        (((3, 32, 32), 10, 5), "even number of channels, got 5"),
        (((3, 32, 32), 10, 8, 0), "at least one cell, got layers=0"),
    ],
)
def test_sizes_that_no_network_has_are_refused(
    given: tuple[tuple[int, int, int], int], message: str
) -> None:
    with pytest.raises(UsageError, match=message):
        cell_space(*given)


def test_the_space_has_as_many_networks_as_the_paper_counts() -> None:
    each = 1 * 3 * 6 * 10 * 49**4
    assert SMALL.size == each**2 == 1_037_664_180**2


def test_every_published_cell_of_two_operations_on_four_nodes_is_in_the_space() -> None:
    inside = 0
    for published in published_cells().values():
        network = SMALL.architecture(published.genotype)
        if network.genotype.choices:
            inside += 1
            assert SMALL.cells(network.genotype) == published.genotype
            assert SMALL.architecture(network.genotype) == network
    assert inside >= 22


def test_cells_outside_the_space_say_so_in_their_name() -> None:
    assert SMALL.architecture(published_genotype("NASNet")).genotype == Genotype(
        "cells (given)", ()
    )
    with pytest.raises(UsageError, match=r"normal cell: 5 nodes with concat .* are not in the"):
        SMALL.genotype(published_genotype("NASNet"))
    with pytest.raises(UsageError, match=r"normal cell: node 3 \(no input\) is not in the space"):
        SMALL.genotype(published_genotype("FairDARTS_a"))


def test_two_operations_of_one_source_are_in_the_space() -> None:
    pair = (Edge("sep_conv_3x3", 1), Edge("dil_conv_5x5", 1))
    first = (Edge("skip_connect", 0), SKIP)
    cell = Cell((first, pair, pair, pair), (2, 3, 4, 5))
    genotype = SMALL.genotype(CellGenotype(cell, cell))
    assert SMALL.cells(genotype).normal == cell


@pytest.mark.parametrize("space", [SMALL, norms(SMALL, "pool and skip"), IMAGENET])
def test_fixed_blocks_and_the_sites_of_the_choices_are_exactly_the_network(
    space: CellSpace,
) -> None:
    table: dict[tuple[int, int], Counter[Block]] = {}
    for site in space.sites():
        row = table.setdefault((site.decision, site.candidate), Counter())
        row[site.block] += site.multiplicity
    for seed in range(3):
        genotype = space.random(Random(seed))
        expected = Counter(space.fixed)
        for decision, choice in enumerate(genotype.choices):
            expected += table[decision, choice]
        assert Counter(space.architecture(genotype).blocks) == expected


def test_every_candidate_has_a_site_and_the_names_say_what_and_of_which_node() -> None:
    assert len(SMALL.decisions) == 2 * 4 * 2
    assert [len(decision.candidates) for decision in SMALL.decisions[:8]] == [
        14, 14, 21, 21, 28, 28, 35, 35,
    ]  # fmt: skip
    assert SMALL.decisions[0].name == "normal node 2 operation 1"
    assert SMALL.decisions[15].name == "reduction node 5 operation 2"
    assert SMALL.decisions[0].candidates[-1] == "dil_conv_5x5 of 1"
    seen = {(site.decision, site.candidate) for site in SMALL.sites()}
    assert len(seen) == sum(len(decision.candidates) for decision in SMALL.decisions)


def test_random_networks_are_of_the_space_differ_and_take_different_sources() -> None:
    rng = Random(0)
    drawn = [SMALL.random(rng) for _ in range(50)]
    assert len(set(drawn)) == 50
    for genotype in drawn:
        cells = SMALL.cells(genotype)
        for node in (*cells.normal.nodes, *cells.reduction.nodes):
            assert node[0].source < node[1].source
    sources = Counter(SMALL.cells(genotype).normal.nodes[3][0].source for genotype in drawn)
    assert set(sources) == {0, 1, 2, 3}


def test_neighbours_differ_in_one_decision_and_are_networks() -> None:
    genotype = SMALL.random(Random(1))
    neighbours = list(SMALL.neighbours(genotype))
    assert len(set(neighbours)) == len(neighbours)
    # the operation (6 others), or the source (all but this one and the other's) with any of 7
    nodes = (2, 3, 4, 5)
    assert len(neighbours) == 2 * sum(2 * (6 + 7 * (node - 2)) for node in nodes)
    for neighbour in islice(neighbours, 0, None, 20):
        changed = [a != b for a, b in zip(neighbour.choices, genotype.choices, strict=True)]
        assert sum(changed) == 1
        assert SMALL.architecture(neighbour).digest != SMALL.architecture(genotype).digest


def test_a_genotype_of_another_space_or_candidate_is_refused() -> None:
    with pytest.raises(
        UsageError, match="space 'mobile' with 2 choices does not fit space 'cells'"
    ):
        SMALL.architecture(Genotype("mobile", (0, 0)))
    with pytest.raises(UsageError, match="normal node 2 operation 1: candidate 14 of 14 does not"):
        SMALL.architecture(Genotype("cells", (14,) + (0,) * 15))


def test_the_space_is_what_searches_expect() -> None:
    space: SearchSpace = SMALL
    assert space.architecture(space.random(Random(0))).num_classes == 10


def test_an_architecture_of_cells_is_the_same_after_json() -> None:
    network = SMALL.architecture(published_genotype("AmoebaNet"))
    read = msgspec.json.decode(msgspec.json.encode(network), type=Architecture)
    assert read == network and read.digest == network.digest


def test_keys_of_all_blocks_name_them() -> None:
    for name in COUNTS:
        for block in norms(SMALL, "pool and skip").architecture(published_genotype(name)).blocks:
            assert Block.from_key(block.key) == block


def test_the_auxiliary_head_comes_after_the_second_reduction() -> None:
    for genotype in (published_genotype("DARTS_V2"), CIFAR.random(Random(0))):
        architecture = CIFAR.architecture(genotype)
        block = architecture.blocks[auxiliary_place(architecture)]
        assert (block.op, block.out_channels, block.out_size) == ("concat", 576, 8)


def test_the_default_network_is_darts_own_and_lacking_its_operations_a_separable_one() -> None:
    space = cell_space((1, 28, 28), 10)
    assert space.cells(space.default) == published_genotype("DARTS_V2")
    small = msgspec.structs.replace(space, ops=("skip_connect", "sep_conv_3x3"))
    edges = [edge for node in small.cells(small.default).normal.nodes for edge in node]
    assert {edge.op for edge in edges} == {"sep_conv_3x3"}


def test_baselines_are_published_cells_that_grow_in_width() -> None:
    space = cell_space((1, 28, 28), 10)
    families: dict[str, list[int]] = {}
    for name, origin, network in space.baselines():
        assert origin == "published"
        families.setdefault(name.split()[0], []).append(network.params)
    assert len(families) == 2
    for params in families.values():
        assert params == sorted(set(params))
