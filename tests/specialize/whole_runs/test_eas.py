"""`hwnas specialize --strategy eas` from images to a verified file and a family tree."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec
import pytest
from click.testing import CliRunner, Result

from hwnas.cli.main import cli
from hwnas.errors import HwnasError
from hwnas.specialize.setup.effort import EFFORTS
from tests.support.machines.forked import fork_trainings
from tests.support.networks.eas_search import FakeRay, InProcess
from tests.support.reporting.sample_run import TINY, write_images

SMALL = """
family = "plain"
name = "small"
widths = [4, 8, 16]
kernel_size = [1, 3]

[[stages]]
start = [4]
default = [16, 16]
depth = 3
pool = 2

[[stages]]
start = [4]
default = [16]
depth = 3

[fully_connected]
units = [8, 16]
start = [8]
"""


@pytest.fixture(scope="module", autouse=True)
def home(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    folder = tmp_path_factory.mktemp("home")
    effort = msgspec.structs.replace(TINY, children=4, child_epochs=1, training_passes=700)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("HWNAS_HOME", str(folder))
        fork_trainings(patch)
        patch.setitem(EFFORTS, "quick", effort)
        patch.setattr("hwnas.search.eas.strategy.workers_at", lambda address: InProcess())
        patch.setattr("hwnas.profiling.measure.DEFAULT_NETWORKS", 12)
        patch.setattr("hwnas.spaces.grown.space.MEASURED_WIDTHS", 2)
        patch.setattr("hwnas.spaces.grown.densenet.MAX_DEPTH", 3)
        patch.setattr("hwnas.spaces.grown.densenet.GROWTHS", (4, 6, 8, 12))
        write_images(folder / "images.npz")
        (folder / "small.toml").write_text(SMALL)
        yield folder


def call(home: Path, space: str, out: str, *more: str) -> Result:
    run = ["--out", str(home / out), "--data", str(home / "images.npz")]
    device = ["--target", "simulated-phone", "--strategy", "eas", "--space", space]
    return CliRunner().invoke(cli, ["specialize", *run, *device, *more])


def refused(done: Result, exit_code: int) -> str:
    """Return the line of a run that ended with this error."""
    assert isinstance(done.exception, HwnasError), (done.stderr, done.exception)
    assert done.exception.exit_code == exit_code
    assert "\n" not in str(done.exception)
    return str(done.exception)


def result_of(folder: Path) -> dict[str, Any]:
    return json.loads((folder / "report.json").read_bytes())["results"][0]


@pytest.fixture(scope="module")
def finished(home: Path) -> Path:
    done = call(home, str(home / "small.toml"), "whole")
    assert done.exit_code == 0, (done.stderr, done.exception)
    return home / "whole"


def test_the_budget_is_kept_and_used_and_the_files_are_verified(finished: Path) -> None:
    result = result_of(finished)
    assert result["verdict"] == "kept"
    assert 0.8 < result["latency"]["median_ms"] / result["budget_ms"] <= 1
    assert [row["format"] for row in result["artifacts"]] == ["tflite", "onnx"]
    assert all(row["max_relative_error"] < 1e-3 for row in result["artifacts"])
    assert result["accuracy"]["artifact"] > 0.5  # of three classes


def test_the_report_has_the_family_tree_and_the_chosen_network_in_it(finished: Path) -> None:
    result = result_of(finished)
    family = {member["name"]: member for member in result["family"]}
    [chosen] = [member for member in family.values() if member["chosen"]]
    assert chosen["digest"] == result["architecture"]["digest"]
    assert chosen["measured_ms"] == pytest.approx(result["latency"]["median_ms"])
    line = [chosen]
    while line[-1]["parent"]:
        line.append(family[line[-1]["parent"]])
    assert line[-1]["name"] == "n0" and any(member["steps"] for member in line)
    assert all(member["accuracy"] is not None for member in family.values())
    for name in ("report.md", "report.html"):
        text = (finished / name).read_text()
        assert "Lineage" in text and f"★ {chosen['name']}" in text


def test_training_goes_on_from_the_inherited_weights(finished: Path) -> None:
    digest = result_of(finished)["architecture"]["digest"]
    inherited = finished / "search" / "inherited" / f"{digest}.safetensors"
    [chosen] = [member for member in result_of(finished)["family"] if member["chosen"]]
    trained = json.loads((finished / "training" / digest / "result.json").read_bytes())
    assert trained["validation_accuracy"] >= chosen["accuracy"] - 0.05  # and not undone
    common = ["train", "--architecture", str(finished / "training" / digest / "architecture.json")]
    common += ["--data", str(finished.parent / "images.npz"), "--epochs", "1", "--out"]
    accuracies: list[float] = []
    for name, more in (("fresh", []), ("given", ["--weights", str(inherited)])):
        out = finished.parent / name
        assert CliRunner().invoke(cli, [*common, str(out), *more]).exit_code == 0
        result = json.loads((out / "result.json").read_bytes())
        accuracies.append(result["validation_accuracy"])
    assert accuracies[1] > accuracies[0] + 0.1  # an epoch alone teaches less
    wrong = CliRunner().invoke(
        cli,
        [
            "train",
            "--architecture",
            "mobilenet_v2",
            "--data",
            str(finished.parent / "images.npz"),
            "--out",
            str(finished.parent / "wrong"),
            "--epochs",
            "1",
            "--weights",
            str(inherited),
        ],
    )
    assert "does not fit this network" in refused(wrong, 2)


@pytest.mark.parametrize("lost", ["round-1.json", "inherited"])
def test_a_run_that_is_resumed_from_its_search_ends_the_same(
    home: Path, finished: Path, lost: str
) -> None:
    import shutil

    again = home / "again"
    shutil.rmtree(again, ignore_errors=True)
    shutil.copytree(finished, again)
    for gone in ("report.json", "checkpoints/search.safetensors"):
        (again / gone).unlink()
    if lost == "inherited":
        shutil.rmtree(again / "search" / lost)
    else:
        (again / "search" / lost).unlink()
    shutil.rmtree(again / "training")
    trained: list[str] = []
    with pytest.MonkeyPatch.context() as patch:
        pool = InProcess()
        patch.setattr("hwnas.search.eas.strategy.workers_at", lambda address: pool)
        done = call(home, str(home / "small.toml"), "again", "--resume")
        trained += pool.trained
    assert done.exit_code == 0, (done.stderr, done.exception)
    assert trained == []  # every child is known
    assert ("the networks are chosen again" in done.stderr) == (lost == "inherited")
    whole, resumed = result_of(finished), result_of(again)
    for rows, field in (("artifacts", "sha256"), ("family", "name")):
        assert [row[field] for row in whole[rows]] == [row[field] for row in resumed[rows]]


def test_densenet_goes_the_whole_way_too(home: Path) -> None:
    plan = json.loads(call(home, "densenet", "dense", "--dry-run", "--json").stdout)
    low_ms, _, _ = plan["results"][0]["range_ms"]
    done = call(home, "densenet", "dense", "--budget", f"{1.6 * low_ms:.4f}ms")
    assert done.exit_code == 0, (done.stderr, done.exception)
    result = result_of(home / "dense")
    assert result["verdict"] == "kept" and len(result["family"]) > 3
    assert any(block["op"] == "dense_layer" for block in result["architecture"]["blocks"])


@pytest.mark.slow
def test_a_chain_of_mbconvs_goes_the_whole_way_too(home: Path) -> None:
    done = call(home, "mobile", "mobile", "--budget", "50%")
    assert done.exit_code == 0, (done.stderr, done.exception)
    result = result_of(home / "mobile")
    assert result["verdict"] == "kept"
    root, *children = result["family"]
    assert root["parent"] == "" and any(member["steps"] for member in children)
    assert [member["digest"] for member in children if member["chosen"]] == [
        result["architecture"]["digest"]
    ]


def test_a_start_over_the_budget_without_shrinking_is_one_line(home: Path, finished: Path) -> None:
    space = str(home / "large.toml")
    text = SMALL.replace("start = [4]\ndefault = [16]", "start = [16, 16, 16]\ndefault = [16]")
    Path(space).write_text(text.replace("start = [4]\ndefault = [16, 16]", "start = [16, 16, 16]"))
    plan = json.loads(call(home, space, "over", "--dry-run", "--json").stdout)
    budget = f"{0.5 * plan['results'][0]['range_ms'][2]:.4f}ms"
    line = refused(call(home, space, "over", "--budget", budget, "--option", "shrink=false"), 5)
    assert line.startswith("the start network of small-") and "shrink=false" in line


def test_options_of_eas_are_refused_where_they_mean_nothing(
    home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import sys

    line = refused(call(home, "cells", "x"), 2)
    assert "which the space 'cells' doesn't support" in line
    monkeypatch.setitem(sys.modules, "ray", FakeRay())
    ray = ("--option", "ray=127.0.0.1:1")
    assert "127.0.0.1:1" in refused(call(home, "chain", "x", *ray), 3)
    line = refused(call(home, "mobile", "x", *ray, "--strategy", "proxyless"), 2)
    assert "no option of strategy 'proxyless' named 'ray'" in line
