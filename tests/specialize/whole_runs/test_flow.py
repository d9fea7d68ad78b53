"""`hwnas specialize` from images to a verified file, killed and resumed, kept and missed."""

from __future__ import annotations

import json
import re
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from click.testing import CliRunner, Result
from PIL import Image

from hwnas.cli.main import cli
from hwnas.data.datasets import load_dataset, normalise
from hwnas.devices.worker.runtimes.open import open_model
from hwnas.errors import BudgetError, UsageError
from hwnas.networks.resolve import read_architecture
from hwnas.networks.weights import trained_network
from hwnas.specialize.setup import resolve
from hwnas.specialize.setup.target import Target, find_target
from hwnas.specialize.tracking import TRACKERS
from hwnas.training import pool
from tests.support.machines.forked import fork, killed_when
from tests.support.reporting.contract import CONTRACT
from tests.support.reporting.sample_run import (
    StandIn,
    make_small,
    put_phone_table,
    write_images,
)
from tests.support.reporting.trackers import Recorder


@pytest.fixture(scope="module", autouse=True)
def home(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    folder = tmp_path_factory.mktemp("home")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("HWNAS_HOME", str(folder))
        make_small(patch)
        put_phone_table()
        yield folder


@pytest.fixture(scope="module")
def data(home: Path) -> Path:
    return write_images(home / "images.npz")


def options(out: Path, data: Path, *more: str) -> list[str]:
    run = ["--out", str(out), "--data", str(data), "--target", "simulated-phone", "--threads", "1"]
    return ["specialize", *run, "--budget", "30%", *more]


def call(*arguments: str) -> Result:
    return CliRunner().invoke(cli, arguments)


TRACKED = Recorder()
"""What the undisturbed run sent to its tracker."""


@pytest.fixture(scope="module")
def finished(home: Path, data: Path) -> Path:
    """The folder of an undisturbed run, which is tracked."""
    out = home / "runs" / "whole"
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(TRACKERS, "mlflow", lambda folder: TRACKED)
        result = call(*options(out, data, "--track", "mlflow"))
    assert result.exit_code == 0, result.stderr
    (out / "stdout.txt").write_text(result.stdout)
    return out


def test_a_tracker_gets_the_search_the_trainings_and_the_result(finished: Path) -> None:
    names = [name for _, metrics in TRACKED.points for name in metrics]
    assert "search/loss" in names and any(re.match(r"training/\w{8}/loss", name) for name in names)
    _, final = TRACKED.points[-1]
    result = result_of(finished)
    assert final["result/simulated_ms"] == result["latency"]["median_ms"]
    assert final["result/accuracy"] == result["accuracy"]["artifact"]
    assert final["result/kept"] == (result["verdict"] == "kept") and TRACKED.closed == 1


def report(out: Path) -> dict[str, Any]:
    return json.loads((out / "report.json").read_bytes())


def result_of(out: Path) -> dict[str, Any]:
    return report(out)["results"][0]


def outcome(out: Path) -> list[str]:
    """Return what a killed and resumed run must have in common: architecture and files."""
    result = result_of(out)
    files = [artifact["sha256"] for artifact in result["artifacts"]]
    return [result["architecture"]["digest"], *files]


def test_the_report_has_every_field_of_the_contract(finished: Path) -> None:
    document, result = report(finished), result_of(finished)
    parts = {
        "document": document,
        "result": result,
        "architecture": result["architecture"],
        "latency": result["latency"],
        "accuracy": result["accuracy"],
        "artifact": result["artifacts"][0],
    }
    for name, fields in CONTRACT.items():
        missing = [field for field in fields.split() if parts[name].get(field) is None]
        assert missing == [], name
    assert (document["schema"], len(document["results"])) == (1, 1)
    assert (result["target"], result["runtime"]) == ("simulated-phone", "litert")


def test_the_budget_is_kept_and_used(finished: Path) -> None:
    result = result_of(finished)
    assert result["verdict"] == "kept"
    assert 0.85 < result["latency"]["median_ms"] / result["budget_ms"] <= 1
    least_ms, _, largest_ms = result["range_ms"]
    assert least_ms < result["budget_ms"] == pytest.approx(0.3 * largest_ms)
    assert result["latency"]["predicted_ms"] == pytest.approx(
        result["latency"]["median_ms"], rel=0.1
    )


def test_a_simulated_latency_is_never_called_measured(finished: Path) -> None:
    document, result = report(finished), result_of(finished)
    assert result["latency"]["kind"] == result["latency_model"]["kind"] == "simulated"
    kinds = {row["kind"] for row in result["candidates"]}
    assert kinds <= {"simulated", "predicted"}
    for name in ("stdout.txt", "report.md"):
        text = (finished / name).read_text()
        assert "simulated" in text
        assert "measured" not in text.replace("not measured", "").replace("never measured", "")
    assert '"kind": "measured"' not in json.dumps(document)


def test_a_simulated_latency_was_taken_at_no_date(finished: Path) -> None:
    conditions = result_of(finished)["latency"]["conditions"]
    assert "litert simulated" in conditions
    assert not re.search(r"\d{4}-\d\d|\d\d:\d\d", conditions)


def test_easy_images_are_learnt_and_the_files_agree_with_torch(finished: Path, data: Path) -> None:
    result, dataset = result_of(finished), load_dataset(str(data))
    architecture = read_architecture(finished / "search" / "architecture.json")
    assert architecture.digest == result["architecture"]["digest"]
    network = trained_network(architecture, finished / "training" / architecture.digest)
    images = normalise(dataset.test.images[:], dataset)
    with torch.no_grad():
        expected = network(torch.from_numpy(images)).numpy()
    assert (expected.argmax(1) == dataset.test.labels).mean() == result["accuracy"]["torch"] > 0.8
    assert result["accuracy"]["test_images"] == len(dataset.test.labels)
    runtimes = {"onnx": "onnxruntime", "tflite": "litert"}
    assert [artifact["format"] for artifact in result["artifacts"]] == ["tflite", "onnx"]
    for artifact in result["artifacts"]:
        path = finished / artifact["path"]
        assert path.stat().st_size == artifact["size_bytes"]
        assert artifact["max_relative_error"] <= 1e-4
        model = open_model(str(path), runtimes[artifact["format"]], 1)
        for image, logits in zip(images[:8], expected[:8], strict=True):
            planes = image if artifact["format"] == "onnx" else image.transpose(1, 2, 0)
            model.set_inputs([np.ascontiguousarray(planes[None])])
            model.run()
            limit = 1e-4 * np.abs(expected).max()
            np.testing.assert_allclose(model.outputs()[0][0], logits, atol=limit, rtol=0)


def test_the_last_lines_are_files_and_commands(finished: Path) -> None:
    output = (finished / "stdout.txt").read_text()
    for name in ("export/model.tflite", "export/model.onnx", "report.html"):
        assert str(finished / name) in output and (finished / name).exists()
    assert "hwnas benchmark" in output and f"hwnas evaluate {finished} --data" in output
    assert f"hwnas report {finished}  # print this report" in output


def test_the_run_is_delivered_as_a_bundle(finished: Path, tmp_path: Path) -> None:
    result = call("deploy", str(finished), "--no-device", "--out", str(tmp_path / "bundle"))
    assert result.exit_code == 0, result.stderr
    manifest = json.loads((tmp_path / "bundle" / "manifest.json").read_text())
    assert manifest["budget_ms"] == result_of(finished)["budget_ms"]
    assert (tmp_path / "bundle" / manifest["model"]).is_file()
    again = call("verify", str(tmp_path / "bundle"), "--no-latency")
    assert again.exit_code == 0 and "all files have their SHA-256" in again.stdout
    refused = call("verify", str(tmp_path / "bundle"), "--model", "mobilenet_v2").exception
    assert isinstance(refused, UsageError) and "a bundle is compared with" in str(refused)


def test_a_second_run_in_the_same_folder_is_refused(finished: Path, data: Path) -> None:
    before = outcome(finished)
    error = call(*options(finished, data)).exception
    assert isinstance(error, UsageError)
    assert "there is a run already; add --resume" in str(error)
    assert outcome(finished) == before


def test_resuming_a_finished_run_renders_it_again_and_trains_nothing(finished: Path) -> None:
    def state() -> dict[str, int]:
        paths = [*finished.glob("training/*/*.safetensors"), *finished.glob("search/*.json*")]
        paths += [*finished.glob("checkpoints/*"), finished / "measurements.jsonl"]
        # architecture.json is written again with the same content
        return {
            str(path): path.stat().st_mtime_ns for path in paths if "architecture" not in path.name
        }

    before, files = state(), outcome(finished)
    (finished / "report.html").unlink()
    (finished / "report.md").unlink()
    result = call("specialize", "--resume", "--out", str(finished), "--json", "--quiet")
    assert result.exit_code == 0
    assert json.loads(result.stdout) == report(finished)
    assert (finished / "report.html").exists() and (finished / "report.md").exists()
    assert (state(), outcome(finished)) == (before, files)


def test_a_missed_budget_is_exit_5_with_everything_written(
    home: Path, finished: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out = home / "runs" / "missed"
    shutil.copytree(finished, out, ignore=shutil.ignore_patterns("export", "report.*"))
    budget_ms = result_of(finished)["budget_ms"]
    # the trained files turn out slower than all that was measured before
    lines = (out / "measurements.jsonl").read_bytes().splitlines(keepends=True)
    (out / "measurements.jsonl").write_bytes(
        b"".join(line for line in lines if b'"final"' not in line)
    )
    profile, runner = find_target("simulated-phone")
    assert runner is not None
    slow = StandIn(runner, lambda measurement: 1.3 * budget_ms / measurement.median_ms)
    monkeypatch.setattr(resolve, "find_target", lambda name, wait_idle_s: Target(profile, slow))
    result = call("specialize", "--resume", "--out", str(out), "--quiet")
    assert isinstance(result.exception, BudgetError)
    assert result.exception.exit_code == 5
    assert str(result.exception) == (
        "No trained network keeps the budget; the fastest is 30.0% over it (simulated)."
    )
    missed = result_of(out)
    assert (missed["verdict"], missed["reason"]) == ("missed", str(result.exception))
    first, second, *files = result.stdout.splitlines()
    assert first.startswith("simulated-phone") and second.strip().startswith("MISSED")
    assert result.stderr == "" and len(files) == 4, "interval, accuracy and two files, no more"
    assert outcome(out) == outcome(finished)
    for artifact in missed["artifacts"]:
        assert (out / artifact["path"]).stat().st_size == artifact["size_bytes"]
    assert (out / "report.html").exists() and (out / "report.md").exists()


SEARCH, TRAINING, COMPILE = "search/log.jsonl", "training/*/log.jsonl", "export"
"""Paths that appear in a run folder while the step is running."""


@pytest.mark.parametrize(
    "moments", [[TRAINING], pytest.param([SEARCH, TRAINING, COMPILE], marks=pytest.mark.slow)]
)
def test_a_run_that_is_killed_and_resumed_ends_as_an_undisturbed_one(
    tmp_path: Path, data: Path, finished: Path, moments: list[str]
) -> None:
    out = tmp_path / "run"
    for number, moment in enumerate(moments):
        process = fork(start, options(out, data, *(["--resume"] if number else [])))
        killed_when(process, out, moment)
        assert not (out / "report.json").exists()
    resumed = call("specialize", "--resume", "--out", str(out))
    assert resumed.exit_code == 0, resumed.stderr
    assert outcome(out) == outcome(finished)
    names = {path.name for path in (out / "training").iterdir()}
    assert names == {path.name for path in (finished / "training").iterdir()}


def start(arguments: list[str]) -> None:
    """Run ``hwnas`` with the tiny effort, and its trainings as users have them."""
    with pytest.MonkeyPatch.context() as patch:
        start_training = pool._start
        make_small(patch)
        patch.setattr(pool, "_start", start_training)
        cli.main(arguments)


def test_a_phone_that_cannot_be_reached_gets_a_file_with_the_latency_of_its_table(
    tmp_path: Path,
) -> None:
    rng = np.random.default_rng(0)
    for number in range(16):
        colour = ("red", "blue")[number % 2]
        pixels = rng.integers(0, 90, (48, 64, 3), dtype=np.uint8)
        pixels[:, :, 0 if colour == "red" else 2] += 150
        path = tmp_path / "images" / colour / f"{number}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(pixels).save(path)
    out = tmp_path / "run"
    arguments = ["--target", "pixel1", "--data", str(tmp_path / "images"), "--budget", "60ms"]
    ended = call("specialize", *arguments, "--out", str(out), "--threads", "1", "--quiet")
    assert ended.exit_code == 0, ended.stderr
    result = result_of(out)
    assert (result["verdict"], result["latency"]["kind"]) == ("not measured", "table")
    assert 0.9 * 60 < result["latency"]["median_ms"] <= 60
    assert result["latency"]["ci95_ms"] is None
    assert {row["kind"] for row in result["candidates"]} == {"table"}
    assert result["architecture"]["input_shape"] == [3, 224, 224]
    assert [artifact["format"] for artifact in result["artifacts"]] == ["tflite", "onnx"]
    assert all(artifact["max_relative_error"] <= 1e-4 for artifact in result["artifacts"])
    assert "not measured" in ended.stdout
    assert not (out / "measurements.jsonl").exists()
