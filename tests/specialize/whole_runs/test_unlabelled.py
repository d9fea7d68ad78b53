"""`hwnas specialize --from` on photos without labels: the network is cut for its own classes."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result

from hwnas.cli.main import cli
from hwnas.errors import UsageError
from hwnas.report.report import Report
from hwnas.specialize.setup.work import tuning
from tests.support.data.photos import noise_image
from tests.support.reporting.sample_run import make_small

SIZE = 64


@pytest.fixture(scope="module", autouse=True)
def home(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    folder = tmp_path_factory.mktemp("home")
    (folder / "own_network.py").write_text(
        "from tests.support.networks.trained import small_mobilenet as network\n"
    )
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("HWNAS_HOME", str(folder))
        patch.syspath_prepend(str(folder))
        make_small(patch)
        patch.setitem(tuning.PASSES, "quick", 100)
        yield folder
    sys.modules.pop("own_network", None)


@pytest.fixture(scope="module")
def photos(home: Path) -> Path:
    folder = home / "photos"
    folder.mkdir()
    for row in range(60):
        noise_image(row, SIZE + row % 5, SIZE).resize((SIZE, SIZE)).save(folder / f"{row}.png")
    return folder


def call(out: Path, photos: Path, *more: str) -> Result:
    run = ["--out", str(out), "--data", str(photos), "--target", "simulated-phone"]
    start = ["--from", "own_network:network", "--resolution", str(SIZE), "--threads", "1"]
    return CliRunner().invoke(cli, ["specialize", *run, *start, *more])


@pytest.fixture(scope="module")
def finished(home: Path, photos: Path) -> Path:
    out = home / "runs" / "unlabelled"
    result = call(out, photos, "--budget", "60%")
    assert result.exit_code == 0, result.stderr
    assert "no labels, so own_network:network is cut for its own 4 classes" in result.stderr
    assert "agreement with the original network" in result.stdout
    assert "accuracy" not in result.stdout
    return out


def report_of(out: Path) -> dict[str, Any]:
    return json.loads((out / "report.json").read_bytes())


def test_the_report_names_agreements_in_the_place_of_accuracies(finished: Path) -> None:
    report = report_of(finished)
    [result] = report["results"]
    assert report["dataset"]["answers_of"] == "own_network:network"
    assert result["accuracy"] is None and result["agreement"]["test_images"] > 0
    assert result["artifacts"][0]["accuracy"] is None
    assert result["artifacts"][0]["agreement"] == result["agreement"]["artifact"]
    assert all(row["validation_accuracy"] is None for row in result["candidates"])
    assert report["results"][0]["architecture"]["num_classes"] == 4
    assert "accuracy" not in Report.read(finished / "report.json").markdown().lower()


def test_the_whole_network_agrees_with_itself_without_any_training(finished: Path) -> None:
    rows = {row["name"]: row for row in report_of(finished)["results"][0]["candidates"]}
    assert rows[f"own_network:network at {SIZE}"]["validation_agreement"] == 1
    assert not (finished / "search" / "original").exists()


def test_members_learn_from_the_answers_of_the_network_alone(finished: Path) -> None:
    jobs = [json.loads(file.read_bytes()) for file in finished.glob("training/*/job.json")]
    assert jobs
    for job in jobs:
        assert job["teacher"] is not None and job["plan"]["teacher_share"] == 1
        assert not job["plan"]["probe"]


def test_the_command_that_repeats_the_run_names_the_photos(finished: Path, photos: Path) -> None:
    report = report_of(finished)
    commands = {each["title"]: each["line"] for each in report["commands"]}
    assert f"--data {photos}" in commands["repeat this run"]
    assert f"--data {photos}" in report["command"]
    assert ".answers" not in " ".join(commands.values())
    again = call(finished, photos, "--budget", "60%", "--resume")
    assert again.exit_code == 0, again.exception


def test_a_sibling_needs_labels(home: Path, photos: Path) -> None:
    error = call(home / "runs" / "sibling", photos, "--siblings", "mobilenet_v2").exception
    assert isinstance(error, UsageError) and "has no labels to tune them with" in str(error)


def test_a_trained_network_without_data_says_which_data_there_may_be() -> None:
    error = CliRunner().invoke(cli, ["specialize", "--from", "mobilenet_v2"]).exception
    assert isinstance(error, UsageError)
    assert "--from mobilenet_v2 needs --data: photos in a folder for each class" in str(error)
