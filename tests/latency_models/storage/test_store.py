"""Where latency models are stored, when they no longer hold, and what the shipped ones cover."""

from __future__ import annotations

import re
from pathlib import Path
from random import Random

import msgspec
import pytest

from hwnas.architecture.architecture import Block
from hwnas.errors import InvalidFile, UnknownName
from hwnas.files import home
from hwnas.latency_models.fitting.fit import fit_model
from hwnas.latency_models.model import Conditions, HeldOut, LatencyModel
from hwnas.latency_models.observation import Observation
from hwnas.latency_models.storage.card import card
from hwnas.latency_models.storage.model_file import read_model
from hwnas.latency_models.storage.store import (
    calibration,
    measured_folder,
    outdated,
    published_model,
    read_measured,
    set_aside,
    write_measured,
)
from hwnas.measurement.measurement import Environment
from hwnas.shipped import shipped
from hwnas.spaces.mobile.space import mobile_space

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
BLOCKS = [
    Observation("isolated", (Block("mbconv", 16, 16, k, 1, e, 14),), 0.01 * k * e, 0.01)
    for k in (3, 5)
    for e in (3, 6)
]
MODEL = fit_model(
    "phone",
    [Observation("isolated", (), 0.004, 0.01), *BLOCKS],
    source="a test",
    conditions=CONDITIONS,
    made="2026-01-01",
)
PAPER_SPACE = mobile_space((3, 224, 224), 1000)


@pytest.fixture(autouse=True)
def own_home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HWNAS_HOME", str(tmp_path / "home"))


def test_a_model_holds_while_nothing_changes() -> None:
    assert outdated(MODEL, THEN, "ab" * 32) is None


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        (
            {"fingerprint": "bbbb", "hardware": "a new chip"},
            r"made on an old chip \(fingerprint aaaa\), this is a new chip \(bbbb\)",
        ),
        ({"runtime_version": "2.2"}, "litert was 2.1 and is 2.2 now"),
        ({"threads": 4}, "made with 1 threads, the profile now says 4"),
    ],
)
def test_an_outdated_model_says_why(changes: dict[str, object], expected: str) -> None:
    reason = outdated(MODEL, msgspec.structs.replace(THEN, **changes), "ab" * 32)
    assert reason is not None and re.search(expected, reason)


def test_another_reference_model_makes_a_model_outdated() -> None:
    assert outdated(MODEL, THEN, "cd" * 32) == "the reference model has changed since"


def test_a_published_model_is_never_outdated() -> None:
    assert outdated(msgspec.structs.replace(MODEL, conditions=None), THEN, "") is None


def test_the_folder_names_device_space_input_and_classes() -> None:
    folder = measured_folder("phone", mobile_space((1, 28, 28), 10))
    assert folder == home() / "latency_models" / "phone" / "mobile-1x28-10"


def test_what_is_written_is_read_again(tmp_path: Path) -> None:
    assert read_measured(tmp_path) is None
    write_measured(MODEL, tmp_path)
    assert read_measured(tmp_path) == read_model(tmp_path / "model.json") == MODEL
    assert (tmp_path / "card.md").read_text() == card(MODEL)


def test_setting_aside_loses_nothing(tmp_path: Path) -> None:
    for number in range(3):
        write_measured(msgspec.structs.replace(MODEL, made=str(number)), tmp_path)
        (tmp_path / "journal.jsonl").write_text(f"line {number}\n")
        set_aside(tmp_path)
        assert read_measured(tmp_path) is None
    for number in range(3):
        assert read_model(tmp_path / f"model-{number + 1}.json").made == str(number)
        assert (tmp_path / f"journal-{number + 1}.jsonl").read_text() == f"line {number}\n"
        assert f"made: {number}" in (tmp_path / f"card-{number + 1}.md").read_text()
    set_aside(tmp_path)
    assert len(list(tmp_path.iterdir())) == 9


def test_a_model_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(InvalidFile, match=r"none\.json: No such file or directory"):
        read_model(tmp_path / "none.json")


def test_the_published_pixel1_table_covers_the_paper_s_space() -> None:
    model = table_2018()
    assert (model.kind, len(model.rows_ms), model.overhead_ms) == ("table", 72, 0.0)
    costs = model.cost_table(PAPER_SPACE)
    assert costs.smallest_ms == pytest.approx(29.6, abs=0.05)
    assert costs.largest_ms == pytest.approx(191.0, abs=0.05)


def test_fewer_classes_than_a_published_table_s_are_charged_as_its_own() -> None:
    ten = mobile_space((3, 224, 224), 10)
    model = table_2018()
    assert model.block_ms(ten.fixed[-1]) == model.block_ms(PAPER_SPACE.fixed[-1])


def table_2018() -> LatencyModel:
    file = shipped("latency_models") / "pixel1" / "table-2018.json"
    return read_model(file)


@pytest.mark.parametrize(
    ("shape", "classes", "key"),
    [
        ((3, 64, 64), 10, "mbconv k3 s1 e3 16>16 @32"),
        ((3, 192, 192), 10, "mbconv k3 s2 e3 16>24 @96"),
        ((3, 224, 224), 1001, "logits k1 s1 e1 1280>1001 @7"),
    ],
)
def test_a_block_that_a_published_table_lacks_is_named(
    shape: tuple[int, int, int], classes: int, key: str
) -> None:
    space = mobile_space(shape, classes)
    lacking = next(
        block
        for block in [*(site.block for site in space.sites()), *space.fixed]
        if block.key == key
    )
    with pytest.raises(UnknownName, match=f"no latency row for pixel1 named {key!r}"):
        table_2018().block_ms(lacking)


def test_the_published_table_is_taken_for_the_paper_s_space_only() -> None:
    assert published_model("pixel1", PAPER_SPACE) == table_2018()


def test_the_adapted_pixel1_model_is_the_default_for_all_else() -> None:
    for size in (160, 192, 208):
        model = published_model("pixel1", mobile_space((3, size, size), 1000))
        assert model is not None and model.kind == "adapted"


def test_later_software_is_24_to_32_percent_faster_than_the_table_of_2018() -> None:
    file = shipped("latency_models") / "pixel1" / "adapted.json"
    new = read_model(file)
    rng, old = Random(0), table_2018()
    networks = [PAPER_SPACE.architecture(PAPER_SPACE.random(rng)).blocks for _ in range(20)]
    ratio = sum(map(new.network_ms, networks)) / sum(map(old.network_ms, networks))
    assert 0.67 < ratio < 0.77


def test_kinds_of_block_that_nothing_published_has_are_refused_by_name() -> None:
    with pytest.raises(UnknownName, match="fused_mbconv kernel 3 was never measured there"):
        published_model("pixel1", mobile_space((1, 28, 28), 10))


def test_a_device_without_published_models_has_none() -> None:
    assert published_model("simulated-phone", PAPER_SPACE) is None


def test_every_published_model_has_the_card_that_its_numbers_make() -> None:
    count = 0
    for device in shipped("latency_models").iterdir():
        for file in device.iterdir() if device.is_dir() else ():
            if file.name.endswith(".json"):
                model = read_model(file)
                text = (device / file.name.replace(".json", ".md")).read_text(encoding="utf-8")
                assert model.device == device.name
                assert card(model) in text
                count += 1
    assert count >= 11


def test_a_card_says_where_numbers_come_from_and_how_far_they_hold() -> None:
    model = msgspec.structs.replace(MODEL, held_out=HeldOut(24, 0.75, 1.0, 0.031, 0.987, 6, 0.92))
    text = card(model)
    assert "- kind: measured" in text
    assert "- observations: 4 blocks alone; rows: 4 blocks" in text
    assert "computes nothing: 0.0040 ms, subtracted from every isolated block" in text
    assert "over 24 networks (6-fold): within 5 % 75%, within 10 % 100%, RMSPE 3.1%" in text
    assert "inside the 90 % interval 92%" in text
    assert "- device: an old chip (fingerprint aaaa)" in text
    assert "- runtime: litert 2.1, 1 thread(s)" in text
    assert "2.5000 ms, interquartile range 1.0% of it, sha256 abababababab" in text
    assert "held-out error: unknown, no whole network was measured" in card(MODEL)


def test_a_model_that_cannot_be_read_does_not_hide_the_calibration_of_another() -> None:
    folder = home() / "latency_models" / "phone"
    write_measured(MODEL, folder / "mobile-3x224-1000")
    (folder / "old").mkdir()
    (folder / "old" / "model.json").write_text('{"schema": 1}')
    assert calibration(THEN, CONDITIONS.reference_sha256) == CONDITIONS.reference_ms
    assert calibration(THEN, "cd" * 32) is None
