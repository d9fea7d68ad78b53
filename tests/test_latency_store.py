"""Where tables are kept, when they no longer hold, and what the shipped ones cover."""

from __future__ import annotations

from pathlib import Path

import msgspec
import pytest

from hwnas.errors import InvalidFile, UnknownName
from hwnas.files import home
from hwnas.latency_models.store import (
    card,
    measured_folder,
    outdated,
    published_table,
    read_measured,
    read_table,
    set_aside,
    write_measured,
)
from hwnas.latency_models.table import SCHEMA, Conditions, HeldOut, LatencyTable
from hwnas.measurement import Environment
from hwnas.shipped import shipped
from hwnas.spaces.mobile import mobile_space

THEN = Environment("phone", "aaaa", "an old chip", "litert", "2.1", 1, "2026-01-01T00:00:00+00:00")
CONDITIONS = Conditions(
    fingerprint="aaaa",
    hardware="an old chip",
    runtime="litert",
    runtime_version="2.1",
    threads=1,
    reference_ms=2.5,
    reference_spread=0.01,
    reference_sha256="ab" * 32,
)
TABLE = LatencyTable(
    SCHEMA, "phone", "measured", "a test", "2026-01-01", {"a": 1.0}, conditions=CONDITIONS
)
PAPER_SPACE = mobile_space((3, 224, 224), 1000)


@pytest.fixture(autouse=True)
def own_home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HWNAS_HOME", str(tmp_path / "home"))


def test_a_table_holds_while_nothing_changes() -> None:
    assert outdated(TABLE, THEN, "ab" * 32) is None


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        (
            {"fingerprint": "bbbb", "hardware": "a new chip"},
            r"made on an old chip \(fingerprint aaaa\), this is a new chip \(bbbb\)",
        ),
        ({"runtime_version": "2.2"}, "litert was 2.1 and is 2.2 now"),
        ({"threads": 4}, "made with 1 threads, the profile now says 4"),
    ],
)
def test_an_outdated_table_says_why(changes: dict[str, object], said: str) -> None:
    reason = outdated(TABLE, msgspec.structs.replace(THEN, **changes), "ab" * 32)
    assert reason is not None
    with pytest.raises(AssertionError, match=said):
        raise AssertionError(reason)


def test_another_reference_model_makes_a_table_outdated() -> None:
    assert outdated(TABLE, THEN, "cd" * 32) == "the reference model has changed since"


def test_a_published_table_is_never_outdated() -> None:
    assert outdated(msgspec.structs.replace(TABLE, conditions=None), THEN, "") is None


def test_the_folder_names_device_space_input_and_classes() -> None:
    folder = measured_folder("phone", mobile_space((1, 28, 28), 10))
    assert folder == home() / "latency_models" / "phone" / "mobile-1x28-10"


def test_what_is_written_is_read_again(tmp_path: Path) -> None:
    assert read_measured(tmp_path) is None
    write_measured(TABLE, tmp_path)
    assert read_measured(tmp_path) == read_table(tmp_path / "table.json") == TABLE
    assert (tmp_path / "card.md").read_text() == card(TABLE)


def test_setting_aside_loses_nothing(tmp_path: Path) -> None:
    for number in range(3):
        write_measured(msgspec.structs.replace(TABLE, made=str(number)), tmp_path)
        (tmp_path / "journal.jsonl").write_text(f"line {number}\n")
        set_aside(tmp_path)
        assert read_measured(tmp_path) is None
    for number in range(3):
        assert read_table(tmp_path / f"table-{number + 1}.json").made == str(number)
        assert (tmp_path / f"journal-{number + 1}.jsonl").read_text() == f"line {number}\n"
        assert f"made: {number}" in (tmp_path / f"card-{number + 1}.md").read_text()
    set_aside(tmp_path)
    assert len(list(tmp_path.iterdir())) == 9


def test_a_table_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(InvalidFile, match=r"none\.json: No such file or directory"):
        read_table(tmp_path / "none.json")


def test_the_published_pixel1_table_covers_the_paper_s_space() -> None:
    table = published_table("pixel1", PAPER_SPACE)
    assert table is not None
    assert (table.kind, len(table.rows_ms), table.overhead_ms) == ("table", 72, 0.0)
    costs = table.cost_table(PAPER_SPACE)
    assert costs.smallest_ms == pytest.approx(29.6, abs=0.05)
    assert costs.largest_ms == pytest.approx(191.0, abs=0.05)


def test_fewer_classes_than_the_published_table_s_are_charged_as_its_own() -> None:
    ten = mobile_space((3, 224, 224), 10)
    table = published_table("pixel1", ten)
    assert table is not None
    assert table.block_ms(ten.fixed[-1]) == table.block_ms(PAPER_SPACE.fixed[-1])


@pytest.mark.parametrize(
    ("shape", "classes", "key"),
    [
        ((1, 28, 28), 10, "mbconv k3 s1 e3 16>16 @14"),
        ((3, 64, 64), 10, "mbconv k3 s1 e3 16>16 @32"),
        ((3, 192, 192), 10, "mbconv k3 s2 e3 16>24 @96"),
        ((3, 224, 224), 1001, "logits k1 s1 e1 1280>1001 @7"),
    ],
)
def test_a_space_that_no_published_table_covers_is_an_error_that_names_a_block(
    shape: tuple[int, int, int], classes: int, key: str
) -> None:
    with pytest.raises(UnknownName) as caught:
        published_table("pixel1", mobile_space(shape, classes))
    assert f"no latency row for pixel1 named {key!r}" in str(caught.value)


def test_a_device_without_published_tables_has_none() -> None:
    assert published_table("simulated-phone", PAPER_SPACE) is None


def test_every_published_table_has_the_card_that_its_numbers_make() -> None:
    found = 0
    for device in shipped("latency_models").iterdir():
        if device.is_dir():
            text = (device / "card.md").read_text(encoding="utf-8")
            tables = [file for file in device.iterdir() if file.name.endswith(".json")]
            for file in tables:
                table = LatencyTable.from_json(file.read_bytes(), file.name)
                assert table.device == device.name
                assert card(table) in text
            found += len(tables)
    assert found


def test_a_card_says_where_numbers_come_from_and_how_far_they_hold() -> None:
    table = msgspec.structs.replace(
        TABLE, scale=0.9, call_ms=0.02, held_out=HeldOut(24, 0.75, 1.0, 0.031, 0.987, 6)
    )
    said = card(table)
    assert "- kind: measured" in said
    assert "a block costs 0.900 x (alone - 0.0200 ms)" in said
    assert "over 24 networks (6-fold): within 5 % 75%, within 10 % 100%, RMSPE 3.1%" in said
    assert "- device: an old chip (fingerprint aaaa)" in said
    assert "- runtime: litert 2.1, 1 thread(s)" in said
    assert "2.5000 ms, interquartile range 1.0% of it, sha256 abababababab" in said
    assert "held-out error: not known, no whole network was measured" in card(TABLE)
