"""The look-up table: sums of rows, never a default, and files that say what they mean."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest

from hwnas.architecture import Block
from hwnas.errors import InvalidFile, UnknownName
from hwnas.latency_models.table import SCHEMA, HeldOut, LatencyTable
from hwnas.spaces.mobile import MobileSpace, Stage, mobile_space

STEM = Block("conv", 3, 16, 3, 2, 1, 32)
DEEP = Block("mbconv", 16, 16, 5, 1, 6, 16)
SKIP = Block("identity", 16, 16, 1, 1, 1, 16)
LOGITS = Block("logits", 128, 100, 1, 1, 1, 4)
TABLE = LatencyTable(
    schema=SCHEMA,
    device="phone",
    kind="measured",
    source="made by hand",
    made="2026-01-01",
    rows_ms={STEM.key: 1.0, DEEP.key: 2.5, LOGITS.key: 0.5},
    overhead_ms=0.125,
)


def text(**changes: Any) -> bytes:
    return msgspec.json.encode({**msgspec.to_builtins(TABLE), **changes})


def test_a_network_costs_its_blocks_and_the_overhead() -> None:
    assert TABLE.network_ms([STEM, DEEP, SKIP, DEEP, LOGITS]) == 0.125 + 1 + 2.5 + 2.5 + 0.5


def test_a_network_of_no_blocks_costs_the_overhead() -> None:
    assert TABLE.network_ms([]) == TABLE.network_ms([SKIP]) == 0.125


@pytest.mark.parametrize(
    "block",
    [
        msgspec.structs.replace(DEEP, kernel_size=7),
        msgspec.structs.replace(DEEP, out_channels=8),
        msgspec.structs.replace(DEEP, activation="hswish"),
        msgspec.structs.replace(LOGITS, in_channels=64),
        msgspec.structs.replace(LOGITS, in_size=7),
        msgspec.structs.replace(LOGITS, out_channels=101),
    ],
)
def test_a_block_without_a_row_is_named_and_never_guessed(block: Block) -> None:
    with pytest.raises(UnknownName) as caught:
        TABLE.block_ms(block)
    assert f"no latency row for phone named {block.key!r}" in str(caught.value)
    assert "\n" not in str(caught.value)


def test_the_error_says_the_nearest_row() -> None:
    with pytest.raises(UnknownName, match=f"did you mean {DEEP.key!r}"):
        TABLE.block_ms(msgspec.structs.replace(DEEP, kernel_size=3))


def test_fewer_classes_are_charged_as_the_next_larger_row() -> None:
    ten, thousand = (msgspec.structs.replace(LOGITS, out_channels=n) for n in (10, 1000))
    rows = {**TABLE.rows_ms, thousand.key: 3.0}
    table = msgspec.structs.replace(TABLE, rows_ms=rows)
    assert table.block_ms(ten) == 0.5
    assert table.block_ms(msgspec.structs.replace(LOGITS, out_channels=101)) == 3.0
    assert table.block_ms(LOGITS) == 0.5


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"rows_ms": {"a": "fast"}}, r"Expected `float`, got `str` - at `\$\.rows_ms"),
        ({"overhead": 1.0}, "unknown field `overhead`"),
        ({"kind": "guessed"}, r"Invalid enum value 'guessed' - at `\$\.kind`"),
        ({"schema": SCHEMA + 1}, f"is of schema {SCHEMA + 1}, this version reads {SCHEMA}"),
        ({"rows_ms": {"a": 1.0, "b": -0.5}}, "row 'b' is -0.5, expected milliseconds >= 0"),
        ({"held_out": {"networks": 6}}, r"missing required field `within_5` - at `\$\.held_out`"),
    ],
)
def test_a_wrong_file_is_named_with_its_field(changes: dict[str, Any], said: str) -> None:
    with pytest.raises(InvalidFile, match=r"^phone\.json: .*" + said):
        LatencyTable.from_json(text(**changes), "phone.json")


def test_a_file_that_is_no_json_is_named() -> None:
    for content in (b"", b"\xff\xfe", b"{"):
        with pytest.raises(InvalidFile, match=r"^phone\.json: "):
            LatencyTable.from_json(content, "phone.json")


def test_a_table_survives_its_file() -> None:
    assert LatencyTable.from_json(text(), "phone.json") == TABLE


def test_a_cost_table_holds_the_rows_and_nothing_for_a_skip() -> None:
    space = mobile_space((3, 32, 32), 10)
    small: MobileSpace = msgspec.structs.replace(space, stages=(Stage(16, 2, 1),))
    blocks = [*small.fixed, *(site.block for site in small.sites() if site.block.op != "identity")]
    keys = {block.key: n + 1.0 for n, block in enumerate(blocks)}
    table = msgspec.structs.replace(TABLE, rows_ms=keys)
    costs = table.cost_table(small)
    assert len(costs.mean_ms) == 2
    for row, decision, candidates in zip(costs.mean_ms, small.decisions, small.blocks, strict=True):
        assert decision.candidates[-1] == "skip" and row[-1] == 0.0
        assert list(row[:-1]) == [table.block_ms(block) for block in candidates[:-1]]
    assert costs.fixed_ms == table.network_ms(small.fixed)
    genotype = small.uniform(small.candidates[4])
    network_ms = table.network_ms(small.architecture(genotype).blocks)
    assert costs.network_ms(genotype.choices) == pytest.approx(network_ms)
    assert costs.smallest_ms <= network_ms <= costs.largest_ms


def test_the_digest_names_the_numbers_and_not_their_order_or_date() -> None:
    again = msgspec.structs.replace(
        TABLE, made="2027-01-01", rows_ms=dict(reversed(TABLE.rows_ms.items()))
    )
    assert again.digest == TABLE.digest
    assert msgspec.structs.replace(TABLE, overhead_ms=0.126).digest != TABLE.digest
    rows = {**TABLE.rows_ms, DEEP.key: 2.6}
    assert msgspec.structs.replace(TABLE, rows_ms=rows).digest != TABLE.digest


def test_the_spread_of_a_prediction_is_the_held_out_error() -> None:
    assert TABLE.std_ms(10.0) is None
    known = msgspec.structs.replace(TABLE, held_out=HeldOut(24, 0.9, 1.0, 0.03, 0.99, 6))
    assert known.std_ms(10.0) == pytest.approx(0.3)
