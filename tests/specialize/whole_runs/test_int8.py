"""`hwnas specialize --precision int8`: int8 from the first measured block to the delivered file."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from hwnas.cli.main import cli
from hwnas.devices.worker.runtimes.open import open_model
from hwnas.errors import UsageError
from hwnas.specialize.steps import quantize
from tests.support.reporting.sample_run import make_small, write_images

pytest.importorskip("ai_edge_quantizer")


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    folder = tmp_path_factory.mktemp("home")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("HWNAS_HOME", str(folder))
        make_small(patch)
        yield folder


def specialize(out: Path, data: Path, *more: str) -> dict[str, Any]:
    arguments = ["specialize", "--target", "simulated-phone", "--budget", "30%", "--quiet"]
    arguments += ["--out", str(out), "--data", str(data), "--precision", "int8", *more]
    result = CliRunner().invoke(cli, arguments)
    assert result.exit_code == 0, result.stderr
    return json.loads((out / "report.json").read_bytes())["results"][0]


@pytest.fixture(scope="module")
def finished(home: Path) -> tuple[Path, dict[str, Any]]:
    out = home / "run"
    return out, specialize(out, write_images(home / "images.npz"))


def test_both_files_are_int8_and_measured(finished: tuple[Path, dict[str, Any]]) -> None:
    out, result = finished
    assert result["precision"] == "int8" and result["verdict"] == "kept"
    assert {row["format"]: row["precision"] for row in result["artifacts"]} == {
        "onnx": "int8",
        "tflite": "int8",
    }
    model: Any = open_model(str(out / "export" / "model.tflite"), "litert")
    assert model._inputs[0]["dtype"].__name__ == "int8"


def test_the_accuracy_is_the_files_in_its_runtime(finished: tuple[Path, dict[str, Any]]) -> None:
    _, result = finished
    assert result["accuracy"]["artifact"] == result["artifacts"][0]["accuracy"]
    assert abs(result["accuracy"]["torch"] - result["accuracy"]["artifact"]) <= 0.05


def test_the_latency_model_has_int8_blocks_only(
    home: Path, finished: tuple[Path, dict[str, Any]]
) -> None:
    [folder] = (home / "latency_models" / "simulated-phone").iterdir()
    assert folder.name == "mobile-1x16-3-int8"
    rows = json.loads((folder / "model.json").read_bytes())["rows_ms"]
    assert len(rows) > 20 and all(key.endswith(" int8") for key in rows)


def test_the_calibration_decides_the_ranges_of_the_same_network(
    home: Path, finished: tuple[Path, dict[str, Any]]
) -> None:
    _, by_extremes = finished
    out = home / "percentile"
    by_percentile = specialize(out, home / "images.npz", "--calibration", "percentile")
    assert by_percentile["architecture"]["digest"] == by_extremes["architecture"]["digest"]
    first, second = (
        sorted(float(each["quantization"][0]) for each in tensors(folder / "export/model.tflite"))
        for folder in (finished[0], out)
    )
    # rare values are cut off, so that the same 256 levels lie closer
    assert len(first) == len(second) and sum(second) < 0.99 * sum(first)


def tensors(path: Path) -> list[dict[str, Any]]:
    """Return the int8 feature maps of a TFLite file."""
    from ai_edge_litert.interpreter import Interpreter

    details = Interpreter(model_path=str(path)).get_tensor_details()
    return [
        each for each in details if each["quantization"][0] and each["dtype"].__name__ == "int8"
    ]


def test_a_loss_over_the_limit_is_tuned_away_or_leaves_layers_in_float(
    home: Path, finished: tuple[Path, dict[str, Any]], monkeypatch: pytest.MonkeyPatch
) -> None:

    drops: list[float] = []

    def drop(*arguments: object) -> float:
        drops.append(0.2)
        return drops[-1]

    monkeypatch.setattr(quantize, "accuracy_drop", drop)
    monkeypatch.setattr(quantize, "select_float_layers", lambda model, *rest: ("1.blocks.0.conv",))
    out = home / "tuned"
    specialize(out, home / "images.npz", "--tune-epochs", "1", "--pixels")
    report = json.loads((out / "report.json").read_bytes())
    notes, [result] = report["notes"], report["results"]
    [chosen] = [row["digest"] for row in result["candidates"] if row.get("chosen")]
    names = {path.name for path in (out / "training" / chosen).glob("int8-*.json")}
    assert names == {"int8-onnx.json", "int8-tflite.json"}
    decisions = [json.loads(path.read_bytes()) for path in out.glob("training/*/int8-*.json")]
    assert len(drops) == 2 * len(decisions)  # before and after tuning
    for decision in decisions:
        assert decision["drop"] == 0.2 and decision["float_layers"] == ["1.blocks.0.conv"]
    files = json.loads((out / "export" / "manifest.json").read_bytes())["files"]
    assert {file["input"]["takes"] for file in files} == {"pixels"}
    assert any("stay in float32" in note and "blocks.0.conv" in note for note in notes)


def test_a_device_without_int8_is_refused_before_any_work(tmp_path: Path) -> None:
    result = CliRunner().invoke(
        cli, ["specialize", "--target", "pixel1", "--precision", "int8", "--dry-run"]
    )
    assert isinstance(result.exception, UsageError)
    assert str(result.exception) == "--precision int8: pixel1 runs float32"
