"""`hwnas latency`: every command on the simulated phone, and the errors for wrong input."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import click
import msgspec
import pytest
from click.testing import CliRunner, Result

from hwnas.cli.latency.group import latency
from hwnas.errors import HwnasError
from hwnas.latency_models.storage.journal import JOURNAL
from hwnas.latency_models.storage.store import read_model

PHONE = ("--target", "simulated-phone")


@pytest.fixture(scope="module", autouse=True)
def folder(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A home in which the phone was measured once."""
    home = tmp_path_factory.mktemp("home")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("HWNAS_HOME", str(home))
        result = call("measure", *PHONE, "--networks", "12", "--quiet")
        assert result.exit_code == 0, result.output
        yield home / "latency_models" / "simulated-phone" / "mobile-1x28-10"


def call(*arguments: str) -> Result:
    return CliRunner().invoke(latency, arguments, standalone_mode=False)


def refused(*arguments: str) -> str:
    """Return the one line of the error that a wrong call raises."""
    error = call(*arguments).exception
    assert isinstance(error, HwnasError), error
    assert "\n" not in str(error)
    return str(error)


def test_fit_prints_the_held_out_error_and_the_worst_cases(folder: Path) -> None:
    document = json.loads(call("fit", *PHONE, "--json").stdout)
    assert document["model"]["held_out"]["within_10"] == 1.0
    assert {case["op"] for case in document["cases"]["ops"]} == {
        "conv", "fused_mbconv", "logits", "mbconv",
    }  # fmt: skip
    assert len(document["cases"]["networks"]) == 3
    text = call("fit", str(folder / JOURNAL), "--device", "simulated-phone").stdout
    assert "networks with the largest errors" in text and "not written" in text


def test_a_model_of_an_unchanged_device_holds() -> None:
    document = json.loads(call("check", *PHONE, "--quiet", "--json").stdout)
    assert document["verdict"] == "holds"
    assert document["inside_90"] >= 7 and document["ratio"] == pytest.approx(1.0, abs=0.02)


def test_check_can_add_what_it_measured(folder: Path) -> None:
    before = read_model(folder / "model.json")
    assert call("check", *PHONE, "--quiet", "--seed", "5", "--add").exit_code == 0
    after = read_model(folder / "model.json")
    assert len(after.networks) == len(before.networks) + 10


def test_a_prediction_adds_up_and_judges_a_budget() -> None:
    arguments = ("predict", "proxyless_mobile", "--target", "pixel1/adapted")
    document = json.loads(call(*arguments, "--json").stdout)
    total = document["overhead_ms"] + sum(block["ms"] for block in document["blocks"])
    assert document["mean_ms"] == pytest.approx(total)
    low_ms, high_ms = document["interval_90_ms"]
    assert low_ms < 78 < high_ms  # as its authors measured it
    generous = call(*arguments, "--budget", "200ms")
    assert (generous.exit_code, "required 90%" in generous.stdout) == (0, True)
    assert call(*arguments, "--budget", "40ms").exit_code == 5


def test_a_network_with_a_block_that_the_table_lacks_uses_the_adapted_model() -> None:
    document = json.loads(
        call("predict", "proxyless_mobile", "--target", "pixel1", "--json").stdout
    )
    assert document["model"] == "pixel1/adapted"


def test_an_imported_table_is_stored_unchanged_and_not_overwritten(tmp_path: Path) -> None:
    table = tmp_path / "mine.csv"
    table.write_text("key,ms\nmbconv k3 s1 e3 16>16 @14,1.5\nmbconv k5 s1 e3 16>16 @14,2.5\n")
    document = json.loads(call("import", str(table), "--device", "board", "--json").stdout)
    assert document["kind"] == "table" and document["rows_ms"]["mbconv k3 s1 e3 16>16 @14"] == 1.5
    assert "--force overwrites it" in refused("import", str(table), "--device", "board")
    assert call("import", str(table), "--device", "board", "--force").exit_code == 0


def test_a_device_is_adapted_from_another_by_a_few_networks() -> None:
    result = call(
        "adapt", "--from", "note10", "--to", "simulated-phone", "--networks", "8", "--force"
    )
    assert result.exit_code == 0, result.exception
    assert "- adapted from: note10" in result.stdout
    assert "90 % interval of a network: ±" in result.stdout
    again = call(
        "adapt", "--from", "note10", "--to", "simulated-phone", "--networks", "10", "--force"
    )
    assert "10 networks simulated by hwnas" in again.stdout


def test_a_table_of_another_batch_size_is_another_device(tmp_path: Path) -> None:
    key = "mbconv k3 s1 e3 16>16 @14"
    table = tmp_path / "eight.csv"
    table.write_text(f"key,ms,batch\n{key},1.5,8\nmbconv k5 s1 e3 16>16 @14,2.5,8\n")
    wrong = "the table has batch 8, but device 'board' means batch 1; expected 'board-batch8'"
    assert wrong in refused("import", str(table), "--device", "board")
    adapt = ("adapt", "--from", "note10", "--to", "board", "--observations", str(table))
    assert wrong in refused(*adapt)
    assert call("import", str(table), "--device", "board-batch8").exit_code == 0


def test_defects_of_a_journal_are_noted_or_refused(folder: Path, tmp_path: Path) -> None:
    lines = (folder / JOURNAL).read_text().splitlines()
    odd = tmp_path / JOURNAL
    odd.write_text("\n".join([*lines, *lines[:3], '{"keys": ["cut', ""]))
    notes = call("fit", str(odd)).stderr
    assert "3 lines repeat an earlier one exactly: merged" in notes
    assert "1 of " in notes and "cut off or are no measurement: skipped" in notes
    entries = [json.loads(line) for line in lines]
    for entry in entries[len(entries) // 2 :]:
        for round in entry["measurement"]["rounds"]:
            round["reference_ms"] = [1.4 * ms for ms in round["reference_ms"]]
            round["samples_ms"] = [1.4 * ms for ms in round["samples_ms"]]
    odd.write_text("".join(json.dumps(entry) + "\n" for entry in entries))
    stepped = call("fit", str(odd))
    assert (
        stepped.exit_code == 0 and "the device's speed changed: from measurement" in stepped.stderr
    )
    entries[0]["measurement"]["environment"]["fingerprint"] = "another"
    odd.write_text("".join(json.dumps(entry) + "\n" for entry in entries))
    assert "mixes measurements of 2 machines" in refused("fit", str(odd))
    table = tmp_path / "mine.csv"
    table.write_text("key,ms\nmbconv k3 s1 e3 16>16 @14,1.5\n")
    assert "a table does not name its device, expected --device NAME" in refused("fit", str(table))


def test_a_check_under_other_conditions_is_refused_and_adds_nothing(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = (folder / JOURNAL).read_bytes()
    monkeypatch.setattr("hwnas.profiling.check.outdated", lambda *_: "it was made elsewhere")
    message = refused("check", *PHONE, "--quiet", "--seed", "9", "--add")
    assert message == (
        "the latency model does not hold: it was made elsewhere; "
        "`hwnas latency measure --target simulated-phone` makes a new one"
    )
    assert (folder / JOURNAL).read_bytes() == before


@pytest.mark.parametrize(
    ("rows", "line"),
    [
        ("", "no rows|empty|has no"),
        ("key,ms\nmbconv k3 s1 e3 16>16 @14,-1\n", "-1"),
        ("key,ms\nmbconv k3 s1 e3 16>16 @14,nan\n", "nan"),
        ("key,ms\nmbconv k3 s1 e3 16>16 @14,1\nmbconv k3 s1 e3 16>16 @14,9\n", "k3 s1 e3"),
        ("key,ms\nmbconv k3 s1 e3 16>16 @14,1\n", "too few"),
        ("key,latency\nmbconv k3 s1 e3 16>16 @14,1\n", "unit|ms"),
    ],
    ids=["empty", "negative", "nan", "conflicting", "one", "no unit"],
)
def test_a_wrong_table_is_one_line(tmp_path: Path, rows: str, line: str) -> None:
    table = tmp_path / "wrong.csv"
    table.write_text(rows)
    message = refused("import", str(table), "--device", "wrong")
    assert any(part in message for part in line.split("|")), message


def test_an_edited_model_and_one_of_another_version_are_refused(
    folder: Path, tmp_path: Path
) -> None:
    content = msgspec.json.decode((folder / "model.json").read_bytes())
    for name, changes in {"edited": {"overhead_ms": 9.0}, "old": {"schema": 1}}.items():
        path = tmp_path / f"{name}.json"
        path.write_bytes(msgspec.json.encode({**content, **changes}))
        message = refused("predict", "proxyless_cpu", "--model", str(path))
        assert str(path) in message
        assert ("sha256" if name == "edited" else "schema 1") in message


def test_an_empty_journal_and_an_unreachable_device_are_one_line(tmp_path: Path) -> None:
    (tmp_path / JOURNAL).write_text("")
    assert "journal is empty" in refused("fit", str(tmp_path / JOURNAL))
    assert "no such journal" in refused("fit", str(tmp_path / "none.jsonl"))
    wrong = call("measure", *PHONE, "--interval", "3").exception
    assert isinstance(wrong, click.BadParameter) and "between 0% and 100%" in wrong.message
    assert "pixel1" in refused("measure", "--target", "pixel1")


def test_a_measurement_ends_when_its_minutes_are_over(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HWNAS_HOME", str(tmp_path))
    result = call("measure", *PHONE, "--minutes", "0.001")
    assert result.exit_code == 0, result.output
    assert "time is up: 0 of 59 blocks and " in result.stderr
    assert "whole networks" in result.stdout and "next: hwnas latency check" in result.stdout
    wrong = call("measure", *PHONE, "--minutes", "0").exception
    assert isinstance(wrong, click.BadParameter) and "is not in the range x>0" in wrong.message
