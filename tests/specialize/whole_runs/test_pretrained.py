"""`hwnas specialize --from`: a trained network is tuned, cut to the budget, and delivered."""

from __future__ import annotations

import json
import math
import sys
from collections.abc import Iterator
from hashlib import sha256
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from click.testing import CliRunner, Result

from hwnas.cli.main import cli
from hwnas.errors import UsageError
from hwnas.export.metadata.architecture import read_embedded
from hwnas.networks.resolve import read_architecture
from hwnas.search.elastic import strategy
from hwnas.specialize import flow
from hwnas.specialize.setup.work import tuning
from hwnas.training import pool
from tests.support.machines.forked import fork, killed_when
from tests.support.machines.killed import Killed
from tests.support.reporting.sample_run import make_small, write_images

FACTORY = """
import torch
from torchvision.models.mobilenetv2 import MobileNetV2

def network():
    torch.manual_seed(0)
    settings = [[1, 8, 1, 1], [6, 16, 2, 2], [6, 24, 2, 2]]
    return MobileNetV2(num_classes=7, inverted_residual_setting=settings)

def smaller():
    torch.manual_seed(1)
    settings = [[1, 8, 1, 1], [4, 16, 1, 2], [4, 16, 1, 2]]
    return MobileNetV2(num_classes=9, inverted_residual_setting=settings)
"""
SIZE = 64
SIBLING = "tiny_factory:smaller"


@pytest.fixture(scope="module", autouse=True)
def home(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    folder = tmp_path_factory.mktemp("home")
    (folder / "tiny_factory.py").write_text(FACTORY)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("HWNAS_HOME", str(folder))
        patch.syspath_prepend(str(folder))
        make_tiny(patch)
        yield folder
    sys.modules.pop("tiny_factory", None)


def make_tiny(patch: pytest.MonkeyPatch) -> None:
    make_small(patch)
    patch.setitem(tuning.PASSES, "quick", 600)


@pytest.fixture(scope="module")
def data(home: Path) -> Path:
    return write_images(home / "images.npz", size=SIZE)


def kill(*_: object) -> None:
    raise Killed


def words(out: Path, data: Path, *more: str) -> list[str]:
    run = ["--out", str(out), "--data", str(data), "--target", "simulated-phone", "--threads", "1"]
    network = ["--from", "tiny_factory:network", "--resolution", str(SIZE)]
    return ["specialize", *run, *network, *more]


def call(out: Path, data: Path, *more: str) -> Result:
    return CliRunner().invoke(cli, words(out, data, *more))


@pytest.fixture(scope="module")
def finished(home: Path, data: Path) -> Path:
    out = home / "runs" / "cut"
    siblings = ["--siblings", SIBLING]
    result = call(out, data, "--budget", "45%", "--quiet", *siblings)
    assert result.exit_code == 0, result.stderr
    return out


def result_of(out: Path) -> dict[str, Any]:
    return json.loads((out / "report.json").read_bytes())["results"][0]


def rows_of(out: Path, origin: str) -> list[dict[str, Any]]:
    return [row for row in result_of(out)["candidates"] if row["origin"] == origin]


def test_the_delivered_member_keeps_the_budget(finished: Path) -> None:
    result = result_of(finished)
    assert result["verdict"] == "kept"
    assert result["latency"]["median_ms"] <= result["budget_ms"]


def test_the_report_shows_the_whole_network_beside_its_members(finished: Path) -> None:
    rows = {row["name"]: row for row in result_of(finished)["candidates"]}
    whole = rows[f"tiny_factory:network at {SIZE}"]
    assert whole["origin"] == "resolution" and whole["validation_accuracy"] > 0
    assert not whole["keeps_budget"]
    smaller = [row for row in rows.values() if row["origin"] == "resolution" and row is not whole]
    [trained] = [row for row in smaller if row["validation_accuracy"] is not None]
    assert trained["validation_accuracy"] > 0
    assert all(row["measured_ms"] > 0 for row in smaller)  # what a user would ship
    assert any(row["origin"] == "search" for row in rows.values())


def test_siblings_are_tuned_as_they_are_and_shown_beside_the_members(finished: Path) -> None:
    rows = rows_of(finished, "sibling")
    assert all(row["name"].startswith(f"{SIBLING} at ") for row in rows)
    assert all(row["measured_ms"] > 0 for row in rows)
    [trained] = [row for row in rows if row["validation_accuracy"] is not None]
    assert trained["validation_accuracy"] > 0
    job = json.loads((finished / "training" / trained["digest"] / "job.json").read_bytes())
    assert job["teacher"] is None and job["plan"]["probe"]
    assert job["normalisation"]["mean"] == pytest.approx([0.485, 0.456, 0.406])


VALID_IMAGES = 48
"""A fifth of the training images."""


def test_a_cut_network_is_delivered_unless_a_whole_one_is_better_by_a_standard_error(
    finished: Path,
) -> None:
    rows = [row for row in result_of(finished)["candidates"] if row["keeps_budget"]]
    trained = [row for row in rows if row["validation_accuracy"] is not None]
    [chosen] = [row for row in trained if row["chosen"]]
    highest = max(row["validation_accuracy"] for row in trained)
    error = math.sqrt(highest * (1 - highest) / VALID_IMAGES)
    margin = error if chosen["origin"] == "search" else 0.0
    for row in trained:
        if row["validation_accuracy"] >= highest - 2 * error:
            preferred = 0.0 if row["origin"] == "search" else margin
            assert row["label_probability"] <= chosen["label_probability"] + preferred
        if chosen["origin"] != "search" and row["origin"] == "search":
            assert row["label_probability"] < chosen["label_probability"]


def test_the_network_that_is_cut_is_no_sibling(home: Path, data: Path) -> None:
    result = call(home / "runs" / "same", data, "--siblings", "tiny_factory:network")
    assert isinstance(result.exception, UsageError)
    assert "it is the network that is cut" in str(result.exception)


def test_the_file_takes_images_in_the_resolution_and_normalisation_of_its_network(
    finished: Path,
) -> None:
    architecture = read_architecture(finished / "search" / "architecture.json")
    manifest = json.loads((finished / "export" / "manifest.json").read_bytes())
    onnx = next(file for file in manifest["files"] if file["format"] == "onnx")
    assert onnx["input"]["shape"] == [1, *architecture.input_shape]
    np.testing.assert_allclose(onnx["input"]["mean"], [0.485, 0.456, 0.406])
    assert architecture.num_classes == 3


def test_the_tuned_network_is_a_file_to_ship(finished: Path) -> None:
    whole = read_embedded(finished / "original" / "model.tflite")
    assert whole.input_shape == (3, SIZE, SIZE) and whole.num_classes == 3


def test_members_learn_from_the_whole_network(finished: Path) -> None:
    siblings = {row["digest"] for row in rows_of(finished, "sibling")}
    folders = [each for each in finished.glob("training/*") if each.name not in siblings]
    assert len(folders) >= 2
    for folder in folders:
        job = json.loads((folder / "job.json").read_bytes())
        assert job["teacher"]["architecture"]["input_shape"] == [3, SIZE, SIZE]
        assert job["initial"].endswith(".safetensors")


def test_a_finished_run_is_resumed_without_work(finished: Path, data: Path) -> None:
    before = (finished / "report.json").read_bytes()
    files = {file: file.stat().st_mtime_ns for file in finished.rglob("*.safetensors")}
    result = CliRunner().invoke(cli, ["specialize", "--resume", "--out", str(finished), "--quiet"])
    assert result.exit_code == 0, result.stderr
    trained = {file: t for file, t in files.items() if "training" in file.parts}
    assert all(file.stat().st_mtime_ns == time for file, time in trained.items())
    assert json.loads(before)["results"][0]["artifacts"] == result_of(finished)["artifacts"]


def test_a_run_that_is_killed_twice_and_resumed_gives_the_same_files(
    home: Path, data: Path, finished: Path
) -> None:
    """In the tuning of the whole network, and before the members are trained."""
    out = home / "runs" / "killed"
    siblings = ["--siblings", SIBLING]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(strategy, "write_log", kill)
        result = call(out, data, "--budget", "45%", "--quiet", *siblings)
        assert isinstance(result.exception, Killed)
    assert (out / "search" / "original" / "checkpoint.safetensors").exists()
    resume = ["specialize", "--resume", "--out", str(out), "--quiet"]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(flow, "train_all", kill)
        assert isinstance(CliRunner().invoke(cli, resume).exception, Killed)
    result = CliRunner().invoke(cli, resume)
    assert result.exit_code == 0, result.stderr
    assert result_of(out)["artifacts"] == result_of(finished)["artifacts"]


TUNING, CHOOSING = "search/original/log.jsonl", "search/inherited/*.safetensors"
TRAINING, COMPILE = "training/*/log.jsonl", "export"
"""Paths that appear in a run folder while the step is running."""


@pytest.mark.parametrize(
    "moments",
    [[CHOOSING], pytest.param([TUNING, CHOOSING, TRAINING, COMPILE], marks=pytest.mark.slow)],
)
def test_a_run_that_is_killed_in_its_steps_leaves_the_same_files_byte_by_byte(
    tmp_path: Path, home: Path, data: Path, finished: Path, moments: list[str]
) -> None:
    out, siblings = tmp_path / "run", ["--siblings", SIBLING]
    for number, moment in enumerate(moments):
        more = ["--budget", "45%", *siblings, *(["--resume"] if number else [])]
        process = fork(start, home, words(out, data, *more))
        killed_when(process, out, moment)
        assert not (out / "report.json").exists()
    resumed = CliRunner().invoke(cli, ["specialize", "--resume", "--out", str(out), "--quiet"])
    assert resumed.exit_code == 0, resumed.stderr
    assert contents(out) == contents(finished)


def start(home: Path, arguments: list[str]) -> None:
    """Run ``hwnas`` with the tiny effort, and its trainings as users have them."""
    sys.path.insert(0, str(home))
    with pytest.MonkeyPatch.context() as patch:
        start_training = pool._start
        make_tiny(patch)
        patch.setattr(pool, "_start", start_training)
        cli.main(arguments)


def contents(out: Path) -> dict[str, str]:
    """Return the sha256 of all weights and model files in the folder of a run, by path."""
    files = [
        path for path in out.rglob("*.*") if path.suffix in (".safetensors", ".onnx", ".tflite")
    ]
    return {str(path.relative_to(out)): sha256(path.read_bytes()).hexdigest() for path in files}


@pytest.mark.slow
def test_budgets_that_need_a_sibling_at_the_same_resolution_share_its_training(
    tmp_path: Path, data: Path
) -> None:
    result = call(tmp_path, data, "--budget", "44.9%,45%", "--quiet", "--siblings", SIBLING)
    assert result.exit_code == 0, result.stderr
    results = json.loads((tmp_path / "report.json").read_bytes())["results"]
    rows = [row for each in results for row in each["candidates"]]
    digests = {row["digest"] for row in rows if row["origin"] == "sibling"}
    assert len(digests) == 1
    files = sorted(tmp_path.glob(f"scenarios/*/training/{digests.pop()}/result.json"))
    assert len(files) == 2
    assert files[0].read_bytes() == files[1].read_bytes()  # the seconds of one training


def test_another_strategy_is_refused(home: Path, data: Path) -> None:
    result = call(home / "runs" / "refused", data, "--strategy", "random")
    assert isinstance(result.exception, UsageError)
    assert "cut by strategy elastic, not random" in str(result.exception)
