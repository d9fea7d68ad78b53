"""Cells that are searched in a small network and delivered in a larger one."""

from __future__ import annotations

from itertools import pairwise
from random import Random

import pytest

from hwnas.errors import UnknownName, UsageError
from hwnas.latency_models.cost import cost_table
from hwnas.spaces.cells.genotype import published_genotype
from hwnas.spaces.cells.layout import StackSize
from hwnas.spaces.cells.sizes import network_sizes, sized_cells, sized_name, unsized_name
from hwnas.spaces.cells.space import CellSpace
from hwnas.spaces.find import find_space

CIFAR, PHOTO = (3, 32, 32), (3, 224, 224)


def cells(name: str, shape: tuple[int, int, int] = CIFAR) -> CellSpace:
    space = find_space(name, shape, 10)
    assert isinstance(space, CellSpace)
    return space


def test_networks_of_the_papers_size_have_the_papers_weights() -> None:
    space = cells("cells-20x36")
    network = space.architecture(published_genotype("DARTS_V2"))
    assert (network.params, network.genotype.space) == (3_349_342, "cells-20x36")
    assert str(network_sizes(CIFAR)[0]) == "20 cells of 36 channels"
    assert network_sizes(PHOTO)[0] == StackSize(14, 48)


def test_they_are_searched_in_8_cells_of_16_channels() -> None:
    for shape, name in ((CIFAR, "cells-20x36"), (PHOTO, "cells-14x48")):
        space = cells(name, shape)
        searched = space.searched
        assert (searched.layers, searched.channels, searched.stem) == (8, 16, space.stem)
        assert searched.searched is searched
        for seed in range(3):
            genotype = space.random(Random(seed))
            assert searched.cells(genotype) == space.cells(genotype)
            small = searched.architecture(genotype)
            assert small.params < space.architecture(genotype).params / 4


@pytest.mark.parametrize("name", ["cells", "cells-norm", "cells-norm-20x36"])
def test_other_spaces_are_searched_in_networks_of_their_own_size(name: str) -> None:
    space = cells(name)
    assert space.searched is space


def test_a_size_with_norms_is_that_of_the_one_stage_search_of_ista_nas() -> None:
    space = cells("cells-norm-20x36")
    assert (space.layers, space.channels, space.norm) == (20, 36, "pool and skip")


@pytest.mark.parametrize("shape", [CIFAR, PHOTO])
def test_no_budget_lies_between_the_networks_of_two_sizes(shape: tuple[int, int, int]) -> None:
    previous: tuple[float, float] | None = None
    sizes = network_sizes(shape)
    assert sizes[-1] == StackSize(5, 8)
    for size in sizes:
        space = cells(sized_name("cells", size), shape)
        costs = cost_table(space, lambda block: block.macs, 0.0)
        default = costs.network_ms(space.default.choices)
        if previous is not None:
            assert 0.55 * previous[0] < default < previous[0] < costs.largest_ms
            assert costs.smallest_ms < previous[1]
        previous = default, costs.smallest_ms


def test_sizes_fall_in_depth_and_width() -> None:
    for shape in (CIFAR, PHOTO):
        for larger, smaller in pairwise(network_sizes(shape)):
            assert larger.layers >= smaller.layers
            assert larger.layers > smaller.layers or larger.channels > smaller.channels


def test_the_name_of_a_space_has_the_size_of_its_networks() -> None:
    name = sized_name("cells-norm", StackSize(20, 36))
    assert (name, unsized_name(name)) == ("cells-norm-20x36", "cells-norm")
    for other in ("cells", "mobile", "cells-20x", "my/cells-20x36.toml", "tree-8x8"):
        assert unsized_name(other) == other
        assert sized_cells(other, CIFAR, 10) is None


def test_a_size_that_no_network_has_is_refused() -> None:
    with pytest.raises(UsageError, match="an even number of channels, got 35"):
        find_space("cells-20x35", CIFAR, 10)
    with pytest.raises(UsageError, match="at least one cell, got layers=0"):
        find_space("cells-0x36", CIFAR, 10)
    with pytest.raises(UnknownName, match="'cells-20', did you mean 'cells'"):
        find_space("cells-20", CIFAR, 10)
