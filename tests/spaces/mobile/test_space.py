"""The mobile space is the paper's at 224 px, and a consistent chain at any size."""

from __future__ import annotations

from random import Random

import msgspec
import pytest

from hwnas.architecture.architecture import Block, Genotype
from hwnas.errors import UsageError
from hwnas.latency_models.model import LatencyModel
from hwnas.latency_models.storage.model_file import read_model
from hwnas.shipped import shipped
from hwnas.spaces.mobile.space import (
    FUSED,
    MBCONVS,
    SKIP,
    Candidate,
    MobileSpace,
    Stage,
    mobile_space,
    mobilenet_v2_like,
)  # fmt: skip

PAPER = mobile_space((3, 224, 224), 1000)
SMALL = mobile_space((1, 28, 28), 10)
LEVEL = msgspec.structs.replace(SMALL, stages=(Stage(16, 2, 2), Stage(16, 2, 1)))
"""A space whose stride falls between blocks of one width."""
PROXYLESS_MOBILE = (1, 0, 6, 6, 2, 0, 1, 1, 5, 1, 1, 1, 4, 1, 1, 1, 5, 5, 2, 2, 5)
"""The choices of the published network: candidate 6 is a skip."""


def of_depth(candidate: Candidate, depth: int) -> Genotype:
    """Take one candidate in the first ``depth`` blocks of each stage and skip the others."""
    choices: list[int] = []
    for options, (name, *_) in zip(PAPER.options, PAPER.places, strict=True):
        used = int(name.rsplit(" ", 1)[1]) <= depth
        choices.append(options.index(candidate if used else SKIP))
    return Genotype("mobile", tuple(choices))


def pixel1() -> LatencyModel:
    file = shipped("latency_models") / "pixel1" / "table-2018.json"
    return read_model(file)


def test_at_224_px_it_is_the_space_of_the_paper() -> None:
    assert len(PAPER.decisions) == 21
    assert PAPER.size == 6**6 * 7**15
    rows = [(row[0].out_channels, row[0].stride, row[0].out_size) for row in PAPER.blocks]
    expected: list[tuple[int, int, int]] = []
    for width, depth, stride, size in (
        (24, 4, 2, 56), (40, 4, 2, 28), (80, 4, 2, 14), (96, 4, 1, 14), (192, 4, 2, 7),
        (320, 1, 1, 7),
    ):  # fmt: skip
        expected += [(width, stride, size), *[(width, 1, size)] * (depth - 1)]
    assert rows == expected
    assert PAPER.fixed == (
        Block("conv", 3, 32, 3, 2, 1, 224),
        Block("mbconv", 32, 16, 3, 1, 1, 112),
        Block("conv", 320, 1280, 1, 1, 1, 7),
        Block("logits", 1280, 1000, 1, 1, 1, 7),
    )


def test_the_small_space_has_10_decisions_and_59_blocks_to_measure() -> None:
    assert len(SMALL.decisions) == 10
    blocks = {*SMALL.fixed, *(site.block for site in SMALL.sites())}
    assert len({block.key for block in blocks if block.op != "identity"}) == 59


@pytest.mark.parametrize("space", [PAPER, SMALL, LEVEL], ids=["224 px", "28 px", "one width"])
def test_skip_is_a_candidate_exactly_where_shapes_agree(space: MobileSpace) -> None:
    for decision, blocks in zip(space.decisions, space.blocks, strict=True):
        first = blocks[0]
        agree = (first.in_channels, first.in_size) == (first.out_channels, first.out_size)
        assert (decision.candidates[-1] == "skip") == agree
        assert decision.candidates.count("skip") == agree == first.residual


def test_sites_are_the_candidates_in_their_order() -> None:
    expected = [(p, k) for p, d in enumerate(SMALL.decisions) for k in range(len(d.candidates))]
    assert [(site.decision, site.candidate) for site in SMALL.sites()] == expected


@pytest.mark.parametrize("shape", [(1, 16, 16), (3, 28, 28), (3, 33, 33), (3, 96, 96), (1, 97, 97)])
def test_every_block_takes_what_the_one_before_gives(shape: tuple[int, int, int]) -> None:
    space, rng = mobile_space(shape, 7), Random(0)
    for _ in range(100):
        network = space.architecture(space.random(rng))
        channels, size, _ = shape
        for block in network.blocks:
            assert (block.in_channels, block.in_size) == (channels, size)
            channels, size = block.out_channels, block.out_size
        assert (channels, size) == (7, 1)


def test_random_genotypes_reach_every_candidate_and_follow_the_seed() -> None:
    rng, again = Random(1), Random(1)
    drawn = [SMALL.random(rng) for _ in range(300)]
    assert drawn[:5] == [SMALL.random(again) for _ in range(5)]
    for decision, choices in zip(
        SMALL.decisions, zip(*(g.choices for g in drawn), strict=True), strict=True
    ):
        assert set(choices) == set(range(len(decision.candidates)))


def test_neighbours_are_all_that_differ_in_one_decision() -> None:
    genotype = SMALL.random(Random(2))
    neighbours = list(SMALL.neighbours(genotype))
    assert len(set(neighbours)) == len(neighbours)
    assert len(neighbours) == sum(len(d.candidates) - 1 for d in SMALL.decisions)
    for other in neighbours:
        pairs = zip(genotype.choices, other.choices, strict=True)
        assert sum(old != new for old, new in pairs) == 1
        SMALL.architecture(other)


@pytest.mark.parametrize(
    ("genotype", "match"),
    [
        (Genotype("cells", (0,) * 10), "space 'cells'"),
        (Genotype("mobile", (0,) * 9), "9 choices does not fit space 'mobile' with 10 decisions"),
        (Genotype("mobile", (0,) * 9 + (9,)), "stage 4 block 2: candidate 9 of 9 does not exist"),
        (Genotype("mobile", (-1,) + (0,) * 9), "stage 1 block 1: candidate -1"),
        (Genotype("mobile", (0, 0, 8) + (0,) * 7), "stage 2 block 1: candidate 8 of 8"),
    ],
)
def test_a_genotype_of_another_space_is_one_clear_error(genotype: Genotype, match: str) -> None:
    with pytest.raises(UsageError, match=match):
        SMALL.architecture(genotype)


@pytest.mark.parametrize(
    ("shape", "match"),
    [((3, 28, 14), "at least 16 px, got 28x14 px"), ((1, 15, 15), "at least 16 px, got 15 px")],
)
def test_an_image_it_cannot_take_is_one_clear_error(
    shape: tuple[int, int, int], match: str
) -> None:
    with pytest.raises(UsageError, match=match):
        mobile_space(shape, 10)


@pytest.mark.parametrize("candidate", [*MBCONVS, *FUSED], ids=lambda candidate: candidate.name)
def test_mobilenet_v2_of_width_1_has_the_blocks_of_the_uniform_genotype(
    candidate: Candidate,
) -> None:
    network = mobilenet_v2_like(SMALL, candidate, 1)
    other = SMALL.architecture(SMALL.uniform(candidate))
    assert network.blocks == other.blocks and network.digest == other.digest


def test_a_width_multiplier_rounds_to_8_and_never_narrows_the_head() -> None:
    half = mobilenet_v2_like(PAPER, MBCONVS[3], 0.5)
    assert [b.out_channels for b in half.blocks[:2]] == [16, 8]
    assert {b.out_channels for b in half.blocks[2:-2]} == {16, 24, 40, 48, 96, 160}
    assert half.blocks[-2].out_channels == 1280
    assert mobilenet_v2_like(PAPER, MBCONVS[3], 1.4).blocks[-2].out_channels == 1792
    for block, following in zip(half.blocks, half.blocks[1:], strict=False):
        assert (following.in_channels, following.in_size) == (block.out_channels, block.out_size)


# k3 e3 ... k7 e6 are candidates 0 ... 5; sums of the published model (reference: golden sums)
@pytest.mark.parametrize(
    ("candidate", "depth", "params", "macs", "ms"),
    [
        (0, 4, 3_191_928, 257_422_208, 76.05),
        (3, 4, 4_684_776, 472_620_800, 136.47),
        (2, 4, 3_401_208, 324_407_168, 103.67),
        (5, 4, 5_103_336, 606_590_720, 191.03),
        (0, 1, 2_154_984, 102_528_896, 29.61),
        (4, 2, 3_388_392, 290_782_976, 89.67),
    ],
)
def test_uniform_networks_have_the_counts_and_latencies_of_the_published_model(
    candidate: int, depth: int, params: int, macs: int, ms: float
) -> None:
    network = PAPER.architecture(of_depth(MBCONVS[candidate], depth))
    assert (network.params, network.macs) == (params, macs)
    assert pixel1().network_ms(network.blocks) == pytest.approx(ms, abs=0.005)
    choices = network.genotype.choices
    assert pixel1().cost_table(PAPER).network_ms(choices) == pytest.approx(ms, abs=0.005)


def test_the_expected_latency_at_the_start_of_a_search_is_the_published_one() -> None:
    costs = pixel1().cost_table(PAPER)
    expected = costs.fixed_ms + sum(sum(row) / len(row) for row in costs.mean_ms)
    assert expected == pytest.approx(113.99, abs=0.005)


@pytest.mark.parametrize(("width", "params", "macs"), [(24, 4_073_520, 304_227_008),
                                                       (32, 4_080_512, 320_427_584)])  # fmt: skip
def test_proxyless_mobile_has_its_published_counts(width: int, params: int, macs: int) -> None:
    stages = (Stage(width, 4, 2), *PAPER.stages[1:])
    space = MobileSpace(
        "mobile", PAPER.input_shape, 1000, PAPER.stem, stages, MBCONVS, PAPER.head_width
    )
    network = space.architecture(Genotype("mobile", PROXYLESS_MOBILE))
    assert (network.params, network.macs) == (params, macs)
    if width == 24:
        assert pixel1().network_ms(network.blocks) == pytest.approx(82.52, abs=0.005)


def test_the_block_of_a_decision_is_found_in_the_network_by_its_place() -> None:
    network = SMALL.architecture(SMALL.random(Random(3)))
    for block, decision in zip(network.blocks, SMALL.block_decisions(network), strict=True):
        if decision is None:
            assert block in SMALL.fixed
        else:
            assert block == SMALL.blocks[decision][network.genotype.choices[decision]]


def test_a_space_without_mobilenets_block_has_a_default_network_all_the_same() -> None:
    dense = msgspec.structs.replace(SMALL, candidates=FUSED)
    assert dense.default == dense.uniform(FUSED[1])  # its expansion is nearer
    assert SMALL.default == SMALL.uniform(Candidate("mbconv", 3, 6))
