"""`hwnas latency`: every command on the simulated phone, and what it says of wrong input."""

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
        said = call("measure", *PHONE, "--networks", "12", "--quiet")
        assert said.exit_code == 0, said.output
        yield home / "latency_models" / "simulated-phone" / "mobile-1x28-10"


def call(*arguments: str) -> Result:
    return CliRunner().invoke(latency, arguments, standalone_mode=False)


def refused(*arguments: str) -> str:
    """Return the one line that a wrong call is answered with."""
    error = call(*arguments).exception
    assert isinstance(error, HwnasError), error
    assert "\n" not in str(error)
    return str(error)


def test_fit_says_the_held_out_error_and_the_worst_cases(folder: Path) -> None:
    said = json.loads(call("fit", *PHONE, "--json").stdout)
    assert said["model"]["held_out"]["within_10"] == 1.0
    assert {case["op"] for case in said["cases"]["ops"]} == {
        "conv", "fused_mbconv", "logits", "mbconv",
    }  # fmt: skip
    assert len(said["cases"]["networks"]) == 3
    people = call("fit", str(folder / JOURNAL), "--device", "simulated-phone").stdout
    assert "worst networks" in people and "not written" in people


def test_a_model_of_an_unchanged_device_holds() -> None:
    said = json.loads(call("check", *PHONE, "--quiet", "--json").stdout)
    assert said["verdict"] == "holds"
    assert said["inside_90"] >= 7 and said["ratio"] == pytest.approx(1.0, abs=0.02)


def test_check_can_add_what_it_measured(folder: Path) -> None:
    before = read_model(folder / "model.json")
    assert call("check", *PHONE, "--quiet", "--seed", "5", "--add").exit_code == 0
    after = read_model(folder / "model.json")
    assert len(after.networks) == len(before.networks) + 10


def test_a_prediction_adds_up_and_judges_a_budget() -> None:
    arguments = ("predict", "proxyless_mobile", "--target", "pixel1/adapted")
    said = json.loads(call(*arguments, "--json").stdout)
    total = said["overhead_ms"] + sum(block["ms"] for block in said["blocks"])
    assert said["mean_ms"] == pytest.approx(total)
    low_ms, high_ms = said["interval_90_ms"]
    assert low_ms < 78 < high_ms  # as its authors measured it
    generous = call(*arguments, "--budget", "200ms")
    assert (generous.exit_code, "asked for 90%" in generous.stdout) == (0, True)
    assert call(*arguments, "--budget", "40ms").exit_code == 5


def test_a_network_that_the_table_lacks_a_block_of_is_predicted_by_the_adapted_model() -> None:
    said = json.loads(call("predict", "proxyless_mobile", "--target", "pixel1", "--json").stdout)
    assert said["model"] == "pixel1/adapted"


def test_an_imported_table_is_kept_as_it_is_and_not_overwritten(tmp_path: Path) -> None:
    table = tmp_path / "mine.csv"
    table.write_text("key,ms\nmbconv k3 s1 e3 16>16 @14,1.5\nmbconv k5 s1 e3 16>16 @14,2.5\n")
    said = json.loads(call("import", str(table), "--device", "board", "--json").stdout)
    assert said["kind"] == "table" and said["rows_ms"]["mbconv k3 s1 e3 16>16 @14"] == 1.5
    assert "--force overwrites it" in refused("import", str(table), "--device", "board")
    assert call("import", str(table), "--device", "board", "--force").exit_code == 0


def test_a_device_is_adapted_from_another_and_more_networks_are_counted() -> None:
    said = call(
        "adapt", "--from", "note10", "--to", "simulated-phone", "--networks", "8", "--force"
    )
    assert said.exit_code == 0, said.exception
    assert "- adapted from: note10" in said.stdout
    assert "90 % interval of a network: ±" in said.stdout
    again = call(
        "adapt", "--from", "note10", "--to", "simulated-phone", "--networks", "10", "--force"
    )
    assert "10 networks simulated by hwnas" in again.stdout


def test_a_table_of_several_inputs_a_call_is_another_device(tmp_path: Path) -> None:
    key = "mbconv k3 s1 e3 16>16 @14"
    table = tmp_path / "eight.csv"
    table.write_text(f"key,ms,batch\n{key},1.5,8\nmbconv k5 s1 e3 16>16 @14,2.5,8\n")
    wrong = "latencies of calls of 8 inputs, which board is not called after; expected board-batch8"
    assert wrong in refused("import", str(table), "--device", "board")
    adapt = ("adapt", "--from", "note10", "--to", "board", "--observations", str(table))
    assert wrong in refused(*adapt)
    assert call("import", str(table), "--device", "board-batch8").exit_code == 0


def test_a_journal_is_told_apart_from_what_it_should_be(folder: Path, tmp_path: Path) -> None:
    lines = (folder / JOURNAL).read_text().splitlines()
    odd = tmp_path / JOURNAL
    odd.write_text("\n".join([*lines, *lines[:3], '{"keys": ["cut', ""]))
    said = call("fit", str(odd)).stderr
    assert "3 lines repeat an earlier one exactly: merged" in said
    assert "1 of " in said and "cut off or no measurement: skipped" in said
    entries = [json.loads(line) for line in lines]
    for entry in entries[len(entries) // 2 :]:
        for one in entry["measurement"]["rounds"]:
            one["reference_ms"] = [1.4 * ms for ms in one["reference_ms"]]
            one["samples_ms"] = [1.4 * ms for ms in one["samples_ms"]]
    odd.write_text("".join(json.dumps(entry) + "\n" for entry in entries))
    stepped = call("fit", str(odd))
    assert (
        stepped.exit_code == 0 and "the device's speed stepped: from measurement" in stepped.stderr
    )
    entries[0]["measurement"]["environment"]["fingerprint"] = "another"
    odd.write_text("".join(json.dumps(entry) + "\n" for entry in entries))
    assert "mixes measurements of 2 machines" in refused("fit", str(odd))
    table = tmp_path / "mine.csv"
    table.write_text("key,ms\nmbconv k3 s1 e3 16>16 @14,1.5\n")
    assert "name the device with --device" in refused("fit", str(table))


def test_a_check_of_a_device_that_is_another_now_is_refused_and_adds_nothing(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = (folder / JOURNAL).read_bytes()
    monkeypatch.setattr("hwnas.profiling.check.outdated", lambda *_: "it was made elsewhere")
    said = refused("check", *PHONE, "--quiet", "--seed", "9", "--add")
    assert said == (
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
def test_a_wrong_table_gets_one_line(tmp_path: Path, rows: str, line: str) -> None:
    table = tmp_path / "wrong.csv"
    table.write_text(rows)
    said = refused("import", str(table), "--device", "wrong")
    assert any(part in said for part in line.split("|")), said


def test_an_edited_model_and_one_of_another_version_are_refused(
    folder: Path, tmp_path: Path
) -> None:
    content = msgspec.json.decode((folder / "model.json").read_bytes())
    for name, changes in {"edited": {"overhead_ms": 9.0}, "old": {"schema": 1}}.items():
        path = tmp_path / f"{name}.json"
        path.write_bytes(msgspec.json.encode({**content, **changes}))
        said = refused("predict", "proxyless_cpu", "--model", str(path))
        assert str(path) in said
        assert ("sha256" if name == "edited" else "schema 1") in said


def test_an_empty_journal_and_wrong_shares_get_one_line(tmp_path: Path) -> None:
    (tmp_path / JOURNAL).write_text("")
    assert "journal is empty" in refused("fit", str(tmp_path / JOURNAL))
    assert "no such journal" in refused("fit", str(tmp_path / "none.jsonl"))
    assert "--interval '3'" in refused("measure", *PHONE, "--interval", "3")
    assert "pixel1" in refused("measure", "--target", "pixel1")


def test_a_measurement_ends_when_its_minutes_are_over(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HWNAS_HOME", str(tmp_path))
    said = call("measure", *PHONE, "--minutes", "0.001", "--quiet")
    assert said.exit_code == 0, said.output
    assert "time is up: 0 of 59 blocks and " in said.stderr
    assert "whole networks" in said.stdout and "next: hwnas latency check" in said.stdout
    wrong = call("measure", *PHONE, "--minutes", "0").exception
    assert isinstance(wrong, click.BadParameter) and "is not in the range x>0" in wrong.message
