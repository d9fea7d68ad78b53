"""Runs are listed with what they delivered; only what made the files may be deleted."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from hwnas.cli.main import cli
from hwnas.errors import UsageError
from hwnas.files import lock_folder
from hwnas.report.formatting import ms
from hwnas.specialize.housekeeping.cleaning import clean, deletable
from hwnas.specialize.housekeeping.listing import list_runs
from hwnas.specialize.run_folder import RunFolder
from hwnas.specialize.spec import Milliseconds, RunSpec
from tests.support.reporting.sample_report import measured_report

STAYING = (
    "config.toml",
    "manifest.json",
    "report.json",
    "report.html",
    "measurements.jsonl",
    "export/model.onnx",
    "export/manifest.json",
    "search/architecture.json",
    "search/log.jsonl",
    "training/{delivered}/network.safetensors",
    "training/{delivered}/int8-onnx.safetensors",
    "training/{delivered}/log.jsonl",
    "training/other/result.json",
    "notes.txt",
)
DELETED = {
    "checkpoints/search.safetensors": "checkpoints of the search",
    "checkpoints/search.previous.safetensors": "checkpoints of the search",
    "search/children/ab/network.safetensors": "networks that the search trained",
    "training/other/network.safetensors": "weights and files of networks that were not delivered",
    "training/other/model.onnx": "weights and files of networks that were not delivered",
    "training/{delivered}/model.onnx": "copies, damaged and temporary files",
    "plan.json.damaged": "copies, damaged and temporary files",
}


@pytest.fixture
def run(tmp_path: Path) -> Path:
    """A finished run, as far as its files are of interest here."""
    folder = tmp_path / "runs" / "phone"
    begin(folder)
    report = measured_report()
    report.write(folder)
    for name in (*STAYING, *DELETED):
        path = folder / name.format(delivered=report.results[0].architecture.digest)
        path.parent.mkdir(parents=True, exist_ok=True)
        if not path.exists():
            path.write_bytes(b"1" * 1000)
    return folder


def begin(folder: Path) -> None:
    spec = RunSpec(targets=("simulated-phone",), budgets=(Milliseconds(2.5),))
    RunFolder.open(folder, spec, resume=False).close()


def call(*arguments: str) -> Result:
    return CliRunner().invoke(cli, arguments)


def files(folder: Path) -> set[str]:
    digest = measured_report().results[0].architecture.digest
    names = (str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file())
    return {name.replace(digest, "{delivered}") for name in names}


def test_a_finished_run_is_listed_with_its_result(run: Path, tmp_path: Path) -> None:
    [row] = list_runs(tmp_path)
    result = measured_report().results[0]
    assert (row.run, row.state, row.verdict) == (str(run), "finished", result.verdict)
    assert result.latency is not None and result.accuracy is not None
    assert (row.target, row.measured_ms) == (result.target, result.latency.median_ms)
    assert row.accuracy == result.accuracy.shown
    assert row.size_bytes >= 1000 * len(DELETED)
    printed = call("runs", "list", str(tmp_path)).stdout
    assert "finished" in printed and result.verdict in printed and row.date in printed
    assert f"{ms(result.latency.median_ms)} ms {result.latency.kind}" in printed


def test_states_are_told_apart(run: Path, tmp_path: Path) -> None:
    begin(tmp_path / "a" / "cut-off")
    broken = tmp_path / "b"
    shutil.copytree(run, broken)
    (broken / "report.json").write_text("{")
    with lock_folder(run):
        states = {Path(row.run).name: row.state for row in list_runs(tmp_path)}
    assert states == {"phone": "running", "cut-off": "interrupted", "b": "unreadable"}
    clean(run)
    assert [row.state for row in list_runs(run)] == ["cleaned"]


@pytest.mark.parametrize("name", ["config.toml", "manifest.json"])
def test_a_run_that_lost_its_specification_is_the_same_run(
    run: Path, tmp_path: Path, name: str
) -> None:
    (run / name).unlink()
    [row] = list_runs(tmp_path)
    assert (row.state, row.target) == ("finished", measured_report().results[0].target)
    assert deletable(run)
    with pytest.raises(UsageError, match="there is a run already"):
        RunFolder.open(run, RunSpec(), resume=False)


def test_a_bundle_and_another_program_s_settings_are_no_runs(tmp_path: Path) -> None:
    for name in ("bundle/manifest.json", "theirs/config.toml"):
        (tmp_path / name).parent.mkdir()
        (tmp_path / name).write_text("{}")
    assert list_runs(tmp_path) == []


def test_a_damaged_report_names_the_command_that_writes_it_again(run: Path) -> None:
    for content in ("", "{", '{"schema": 1'):
        (run / "report.json").write_text(content)
        error = call("report", str(run)).exception
        assert f"damaged; `hwnas specialize --resume --out {run}` writes it again" in str(error)


def test_an_interrupted_run_is_listed_with_its_goal(tmp_path: Path) -> None:
    begin(tmp_path / "run")
    [row] = list_runs(tmp_path)
    assert (row.target, row.budget, row.verdict) == ("simulated-phone", "2.5ms", None)


def test_runs_alone_lists_the_working_folder(
    run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    assert "runs/phone" in call("runs").stdout
    monkeypatch.chdir(run.parent / "phone" / "training")
    assert call("runs").stdout.startswith("no runs in ")


def test_only_what_made_the_files_is_deleted(run: Path) -> None:
    before = files(run)
    parts = {
        str(path.relative_to(run)): part.name for part in deletable(run) for path in part.files
    }
    digest = measured_report().results[0].architecture.digest
    assert parts == {name.format(delivered=digest): part for name, part in DELETED.items()}
    shown = call("runs", "clean", str(run))
    assert "nothing was deleted" in shown.stdout and files(run) == before
    deleted = call("runs", "clean", str(run), "--yes")
    assert deleted.exit_code == 0 and "checkpoints of the search" in deleted.stdout
    assert files(run) == before - set(DELETED) | {"cleaned.json"}
    assert call("runs", "clean", str(run)).stdout == f"{run}: nothing to delete\n"


def test_a_cleaned_run_is_not_resumed_by_mistake(run: Path) -> None:
    clean(run)
    with pytest.raises(UsageError, match="cleaned, it can't be continued; `hwnas report"):
        begin_again(run)


def begin_again(folder: Path) -> None:
    spec = RunSpec(targets=("simulated-phone",), budgets=(Milliseconds(2.5),))
    RunFolder.open(folder, spec, resume=True)


def test_running_and_unfinished_runs_and_other_folders_are_refused(
    run: Path, tmp_path: Path
) -> None:
    with lock_folder(run), pytest.raises(UsageError, match="a process is working in it"):
        clean(run)
    begin(tmp_path / "new")
    with pytest.raises(UsageError, match=r"has not finished .* hwnas specialize --resume --out"):
        clean(tmp_path / "new")
    with pytest.raises(UsageError, match=r"not the folder of a run, it has no config\.toml"):
        clean(tmp_path)
    assert os.path.exists(run / "checkpoints" / "search.safetensors")
