"""Cost tables, and models of published tables: rows as they are, never a guess."""

from __future__ import annotations

from random import Random

import msgspec
import numpy as np
import pytest

from hwnas.architecture.architecture import Block
from hwnas.errors import UnknownName
from hwnas.latency_models.cost import CostTable
from hwnas.latency_models.fitting.fit import fit_model
from hwnas.latency_models.model import LatencyModel
from hwnas.latency_models.observation import Observation
from hwnas.spaces.mobile.space import MobileSpace, Stage, mobile_space

STEM = Block("conv", 3, 16, 3, 2, 1, 32)
DEEP = Block("mbconv", 16, 16, 5, 1, 6, 16)
SKIP = Block("identity", 16, 16, 1, 1, 1, 16)
LOGITS = Block("logits", 128, 100, 1, 1, 1, 4)


def published(rows_ms: dict[Block, float]) -> LatencyModel:
    rows = [Observation("in_network", (block,), ms) for block, ms in rows_ms.items()]
    return fit_model("phone", rows, kind="table", source="made by hand", made="2026-01-01")


TABLE = published({STEM: 1.0, DEEP: 2.5, LOGITS: 0.5})
COSTS = CostTable(((1.0, 2.0, 0.0), (0.25, 0.125), (3.0, 5.0, 7.0, 11.0)), fixed_ms=0.1)


def test_a_published_table_keeps_its_rows() -> None:
    assert TABLE.rows_ms == {STEM: 1.0, DEEP: 2.5, LOGITS: 0.5}
    assert TABLE.overhead_ms == 0.0


def test_a_network_costs_its_blocks() -> None:
    assert TABLE.network_ms([STEM, DEEP, SKIP, DEEP, LOGITS]) == 1 + 2.5 + 2.5 + 0.5


def test_a_network_of_no_blocks_costs_the_overhead() -> None:
    loaded = msgspec.structs.replace(TABLE, overhead_ms=0.125)
    assert loaded.network_ms([]) == loaded.network_ms([SKIP]) == 0.125


@pytest.mark.parametrize(
    "block",
    [
        msgspec.structs.replace(DEEP, kernel_size=7),
        msgspec.structs.replace(DEEP, kernel_size=3),
        msgspec.structs.replace(DEEP, out_channels=8),
        msgspec.structs.replace(DEEP, activation="hswish"),
        msgspec.structs.replace(LOGITS, in_channels=64),
        msgspec.structs.replace(LOGITS, in_size=7),
        msgspec.structs.replace(LOGITS, out_channels=101),
    ],
)
def test_a_block_without_a_row_is_named_and_never_guessed(block: Block) -> None:
    for ask in (TABLE.block_ms, lambda block: TABLE.network_ms([STEM, block])):
        with pytest.raises(UnknownName) as caught:
            ask(block)
        assert f"no latency row for phone named {block.key!r}" in str(caught.value)
        assert "\n" not in str(caught.value)


def test_the_error_says_the_nearest_row() -> None:
    with pytest.raises(UnknownName, match=f"did you mean {DEEP.key!r}"):
        TABLE.block_ms(msgspec.structs.replace(DEEP, kernel_size=3))


def test_errors_name_a_fixed_piece_by_its_shapes_and_not_by_its_layers() -> None:
    pieces = [
        Block("piece", 16, 16, 1, 1, 1, size, piece=f"conv 16 k{kernel} p{kernel // 2} / relu")
        for size, kernel in ((16, 3), (8, 5), (8, 3))
    ]
    table = published(dict.fromkeys(pieces[:2], 1.0))
    with pytest.raises(UnknownName) as caught:
        table.block_ms(pieces[2])
    assert str(caught.value) == (
        "no latency row for phone named 'piece k1 s1 e1 16>16 @8 (2 layers)', did you mean "
        "'piece k1 s1 e1 16>16 @16 (2 layers)'? Known: piece k1 s1 e1 16>16 @16 (2 layers)"
    )


def test_fewer_classes_are_charged_as_the_next_larger_row() -> None:
    ten, two_hundred, thousand = (
        msgspec.structs.replace(LOGITS, out_channels=classes) for classes in (10, 200, 1000)
    )
    table = published({STEM: 1.0, thousand: 3.0, LOGITS: 0.5, two_hundred: 0.75})
    assert table.block_ms(ten) == 0.5
    assert table.block_ms(msgspec.structs.replace(LOGITS, out_channels=101)) == 0.75
    assert table.block_ms(msgspec.structs.replace(LOGITS, out_channels=201)) == 3.0
    assert table.block_ms(LOGITS) == 0.5


def test_a_cost_table_of_a_published_one_holds_its_rows_and_nothing_for_a_skip() -> None:
    space = mobile_space((3, 32, 32), 10)
    small: MobileSpace = msgspec.structs.replace(space, stages=(Stage(16, 2, 1),))
    blocks = [*small.fixed, *(site.block for site in small.sites() if site.block.op != "identity")]
    table = published({block: number + 1.0 for number, block in enumerate(dict.fromkeys(blocks))})
    costs = table.cost_table(small)
    assert len(costs.mean_ms) == 2
    for row, decision, candidates in zip(costs.mean_ms, small.decisions, small.blocks, strict=True):
        assert decision.candidates[-1] == "skip" and row[-1] == 0.0
        assert list(row[:-1]) == [table.block_ms(block) for block in candidates[:-1]]
    assert costs.fixed_ms == pytest.approx(table.network_ms(small.fixed))
    genotype = small.uniform(small.candidates[4])
    network_ms = table.network_ms(small.architecture(genotype).blocks)
    assert costs.network_ms(genotype.choices) == pytest.approx(network_ms)
    assert costs.smallest_ms <= network_ms <= costs.largest_ms


def test_a_space_that_a_published_table_does_not_cover_has_no_cost_table() -> None:
    with pytest.raises(UnknownName, match=r"no latency row for phone named '\w+ k\d"):
        TABLE.cost_table(mobile_space((3, 32, 32), 100))


def test_many_networks_at_once_cost_what_each_of_them_does() -> None:
    rng = Random(0)
    choices = [tuple(rng.randrange(len(row)) for row in COSTS.mean_ms) for _ in range(50)]
    costs_ms = COSTS.networks_ms(np.array(choices))
    assert costs_ms.tolist() == [COSTS.network_ms(row) for row in choices]
    assert len(set(costs_ms.tolist())) > 10


def test_no_networks_cost_nothing() -> None:
    assert COSTS.networks_ms(np.zeros((0, 3), dtype=int)).shape == (0,)


@pytest.mark.parametrize("shape", [(3,), (4, 2), (4, 4)])
def test_choices_of_another_space_are_refused(shape: tuple[int, ...]) -> None:
    with pytest.raises(ValueError, match=r"expected \[N, 3\]"):
        COSTS.networks_ms(np.zeros(shape, dtype=int))


def test_a_candidate_that_does_not_exist_is_not_taken_from_a_longer_row() -> None:
    with pytest.raises(IndexError):
        COSTS.networks_ms(np.array([[0, 2, 0]]))


def test_the_smallest_and_the_largest_are_those_of_all_networks() -> None:
    grid = np.stack(np.meshgrid(range(3), range(2), range(4)), axis=-1).reshape(-1, 3)
    costs_ms = COSTS.networks_ms(grid)
    assert len(costs_ms) == 24
    assert COSTS.smallest_ms == pytest.approx(costs_ms.min())
    assert COSTS.largest_ms == pytest.approx(costs_ms.max())
