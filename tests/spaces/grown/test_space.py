"""Spaces that are grown: their networks, their start, what is measured, what it costs."""

from __future__ import annotations

import json
from itertools import pairwise
from pathlib import Path
from random import Random

import msgspec
import pytest

from hwnas.architecture.architecture import Block, Genotype
from hwnas.errors import InvalidFile, UsageError
from hwnas.latency_models.cost import NetworkCosts
from hwnas.latency_models.fitting.fit import fit_model
from hwnas.latency_models.observation import Observation
from hwnas.nn.build import build
from hwnas.profiling.sampling import distinct_blocks
from hwnas.search.path_training import check_paths
from hwnas.search.strategy import SearchContext
from hwnas.spaces.find import find_space
from hwnas.spaces.grown.chain import (
    LARGE_UNITS,
    LARGE_WIDTHS,
    SMALL_UNITS,
    SMALL_WIDTHS,
    chain,
    chain_large,
)
from hwnas.spaces.grown.densenet import GROWTHS, densenet
from hwnas.spaces.grown.space import GrownSpace, Layer
from hwnas.training.seeds import seeded
from tests.support.paths import SHARED_DATA

CIFAR = (3, 32, 32)
SPACES = ("chain", "chain-large", "densenet")


def spaces(shape: tuple[int, int, int] = CIFAR) -> list[GrownSpace]:
    return [chain(shape, 10), chain_large(shape, 10), densenet(shape, 10)]


def words(space: GrownSpace) -> list[str]:
    """The start network in the words of the EAS code."""
    names: list[str] = []
    for block in space.architecture(space.start).blocks:
        if block.op == "conv":
            name = f"fc-{block.out_channels}" if block.in_size == 1 else "conv-"
            names.append(name if block.in_size == 1 else f"conv-{block.out_channels}-3")
        elif block.op == "max_pool":
            names.append(f"pool-max-{block.kernel_size}")
        elif block.op == "global_pool":
            names.append(f"pool-avg-{block.in_size}")
        else:
            names.append(f"fc-{block.out_channels}")
    return names


def test_the_start_of_chain_is_that_of_the_code() -> None:
    expected = (
        "conv-4-3 pool-max-2 conv-4-3 pool-max-2 conv-4-3 pool-max-2 conv-4-3 pool-avg-4 fc-8"
    )
    assert words(chain(CIFAR, 10)) == [*expected.split(), "fc-10"]
    assert chain(CIFAR, 10).architecture(chain(CIFAR, 10).start).params == 710


def test_the_start_of_chain_large_has_the_parameters_that_the_paper_gives() -> None:
    assert chain_large(CIFAR, 10).architecture(chain_large(CIFAR, 10).start).params == 133_530


def test_levels_are_those_of_the_collection() -> None:
    path = SHARED_DATA / "genotypes.json"
    if not path.exists():
        pytest.skip("the collection of published genotypes is not here")
    eas = json.loads(path.read_text())["eas"]
    assert [list(SMALL_WIDTHS), list(SMALL_UNITS)] == [
        eas["filter_levels_small"],
        eas["unit_levels_small"],
    ]
    assert [list(LARGE_WIDTHS), list(LARGE_UNITS)] == [
        eas["filter_levels_large"],
        eas["unit_levels_large"],
    ]
    assert list(GROWTHS) == eas["densenet_growth_levels"]


def test_the_start_of_densenet_is_densenet_bc_of_depth_10_and_growth_4() -> None:
    blocks = densenet(CIFAR, 10).architecture(densenet(CIFAR, 10).start).blocks
    convolutions = sum(
        {"bare_conv": 1, "dense_layer": 2, "transition": 1}.get(b.op, 0) for b in blocks
    )
    assert convolutions + 1 == 10  # and the classifier
    assert {block.growth for block in blocks if block.op == "dense_layer"} == {4}
    assert [b.out_channels for b in blocks if b.op == "transition"] == [6, 5]


@pytest.mark.parametrize("name", SPACES)
@pytest.mark.parametrize("size", [4, 8, 28, 33, 96, 224])
def test_networks_fit_together_at_any_size_and_end_in_a_few_pixels(name: str, size: int) -> None:
    space = find_space(name, (3, size, size), 7)
    rng = Random(0)
    for genotype in (space.default, *(space.random(rng) for _ in range(5))):
        blocks = space.architecture(genotype).blocks
        for before, block in pairwise(blocks):
            assert (block.in_channels, block.in_size) == (before.out_channels, before.out_size)
        assert blocks[0].in_channels == 3 and blocks[-1].out_channels == 7


@pytest.mark.parametrize("space", spaces(), ids=SPACES)
def test_what_is_built_has_the_parameters_that_are_counted(space: GrownSpace) -> None:
    network = space.architecture(space.random(Random(3)))
    assert sum(p.numel() for p in build(network).parameters()) == network.params


@pytest.mark.parametrize("space", spaces(), ids=SPACES)
def test_layers_and_choices_are_the_same_network(space: GrownSpace) -> None:
    for seed in range(10):
        genotype = space.random(Random(seed))
        assert space.genotype(space.layers(genotype)) == genotype


def test_an_empty_slot_has_no_effect_wherever_it_is() -> None:
    space = chain((1, 28, 28), 10)
    last = list(space.default.choices)
    middle = [last[0], last[2], last[1], *last[3:]]
    moved = Genotype(space.name, tuple(middle))
    assert space.architecture(moved).digest == space.architecture(space.default).digest
    decisions = [n for n in space.block_decisions(space.architecture(moved)) if n is not None]
    assert decisions[:2] == [0, 2]


def test_neighbours_differ_in_one_layer_and_are_all_there() -> None:
    space = chain((1, 8, 8), 3)
    around = list(space.neighbours(space.start))
    assert len(set(around)) == len(around) and space.start not in around
    # each of 4 stages: 30 or 10 options, one taken, and as many again for a second layer
    assert len(around) == 3 * (29 + 30) + (9 + 10)


def test_the_size_counts_networks() -> None:
    space = msgspec.structs.replace(chain((1, 8, 8), 3), stages=chain((1, 8, 8), 3).stages[-1:])
    assert space.size == 10 + 10**2 + 10**3


def test_what_a_space_does_not_have_is_told() -> None:
    space = chain(CIFAR, 10)
    layers = space.layers(space.start)
    with pytest.raises(UsageError, match="stage 1: no layer of width 5 and kernel 3 in chain"):
        space.genotype(((Layer(5, 3),), *layers[1:]))
    with pytest.raises(UsageError, match="1 to 10 layers in chain, got 0"):
        space.genotype(((), *layers[1:]))
    with pytest.raises(UsageError, match="at least 4 px, got 8x3 px"):
        chain((3, 8, 3), 10)
    with pytest.raises(UsageError, match="at least 4 px, got 2 px"):
        densenet((3, 2, 2), 10)


@pytest.mark.parametrize("space", spaces((1, 28, 28)), ids=SPACES)
def test_what_is_measured_has_all_kinds_of_blocks_and_is_not_too_much(space: GrownSpace) -> None:
    def kinds(blocks: list[Block]) -> set[tuple[str, int, int]]:
        return {(block.op, block.kernel_size, block.stride) for block in blocks}

    measured = distinct_blocks(space)
    drawn = [b for n in range(40) for b in space.architecture(space.random(Random(n))).blocks]
    assert kinds(drawn) <= kinds(measured)
    assert len(measured) <= 110
    assert max(b.macs for b in measured) <= 2 * space.architecture(space.default).macs


@pytest.mark.parametrize("space", spaces((1, 28, 28)), ids=SPACES)
def test_a_site_names_the_choice_that_its_block_comes_from(space: GrownSpace) -> None:
    for decision, candidate, block, _ in space.sites():
        if block.op in ("conv", "dense_layer"):
            width = block.growth if block.op == "dense_layer" else block.out_channels
            name = f"{width} k{block.kernel_size}"
            assert space.decisions[decision].candidates[candidate] == name


def test_networks_are_spread_over_sizes() -> None:
    space = chain((1, 28, 28), 10)
    macs = [space.architecture(genotype).macs for genotype in space.sample_sizes(8, Random(0))]
    assert macs == sorted(macs) and macs[-1] > 200 * macs[0]
    assert macs[-1] <= space.max_macs


def test_costs_are_those_of_whole_networks() -> None:
    space = chain((1, 8, 8), 3)
    observations = [Observation("isolated", (), 0.01)]
    observations += [
        Observation("isolated", (b,), 0.02 + b.macs / 1e6) for b in distinct_blocks(space)
    ]
    networks = [space.architecture(network) for network in space.sample_sizes(6, Random(0))]
    observations += [
        Observation("network", network.compute_blocks, 0.05 + network.macs / 1e6)
        for network in networks
    ]
    model = fit_model("here", observations, source="made up", validate=False)
    costs = model.costs(space)
    assert isinstance(costs, NetworkCosts)
    drawn = [space.random(Random(seed)) for seed in range(5)]
    expected = [model.network_ms(space.architecture(network).blocks) for network in drawn]
    assert costs.networks_ms([network.choices for network in drawn]) == pytest.approx(
        expected, rel=1e-9
    )
    assert costs.smallest_ms < min(expected) and costs.largest_ms > max(expected)


def test_strategies_that_choose_each_layer_alone_refuse_the_space() -> None:
    space = chain((1, 8, 8), 3)
    with pytest.raises(UsageError, match=r"'chain' depend on each other.*'eas'"):
        check_paths(space)
    costs = NetworkCosts(space, lambda blocks: {}, 1.0)
    with pytest.raises(UsageError, match="no table of costs"):
        _ = SearchContext(
            space=space, costs=costs, budget_ms=1.0, generator=seeded(0, "paths")
        ).table


FILE = """
family = "plain"
name = "own"
widths = [4, 8, 12]
kernel_size = [1, 3]

[[stages]]
start = [4]
default = [8, 8]
pool = 2

[[stages]]
start = [8]
stride = 2

[fully_connected]
units = [8, 16]
start = [8]
"""


def written(folder: Path, text: str) -> str:
    path = folder / "own.toml"
    path.write_text(text)
    return str(path)


def test_a_file_is_a_space(tmp_path: Path) -> None:
    space = find_space(written(tmp_path, FILE), (1, 12, 12), 3)
    assert isinstance(space, GrownSpace) and space.name.startswith("own-")
    keys = [block.key for block in space.architecture(space.start).blocks]
    assert [key.split(" @")[0] for key in keys] == [
        "conv k3 s1 e1 1>4", "max_pool k2 s2 e1 4>4", "conv k3 s2 e1 4>8",
        "global_pool k1 s1 e1 8>8", "conv k1 s1 e1 8>8", "logits k1 s1 e1 8>3",
    ]  # fmt: skip
    assert len(space.layers(space.default)[0]) == 2


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        (
            "pool = 2",
            "pool = 16",
            "pool of 16 after stage 1 leaves no pixels of 12x12",
        ),
        ("widths = [4, 8, 12]", "widths = [8, 4]", r"ascending numbers, got \[8, 4\].*widths"),
        ("start = [4]", "start = [5]", "stage 1: no layer of width 5"),
        ("stride = 2", "strides = 2", r"unknown field `strides` - at `\$.stages"),
        ("kernel_size = [1, 3]", "kernel_size = [2]", r"at `\$.kernel_size"),
    ],
)
def test_a_wrong_file_is_one_clear_line(tmp_path: Path, old: str, new: str, message: str) -> None:
    file = written(tmp_path, FILE.replace(old, new, 1))
    with pytest.raises(InvalidFile, match=message) as error:
        find_space(file, (1, 12, 12), 3)
    assert str(error.value).startswith(file) and "\n" not in str(error.value)
