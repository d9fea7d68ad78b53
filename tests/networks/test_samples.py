"""`hwnas export --samples`: values of a user's own to verify on and to calibrate int8 with."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import click
import numpy as np
import pytest

from hwnas.cli.main import cli
from hwnas.errors import HwnasError, InvalidFile, UsageError
from hwnas.export.graph.interface import ModuleInput
from hwnas.export.samples import read_samples

NETWORK = """
import torch
from torch import nn

class Tracker(nn.Module):
    def __init__(self, integers):
        super().__init__()
        torch.manual_seed(0)
        self.integers = integers
        self.conv, self.box = nn.Conv2d(3, 16, 3, 2), nn.Conv2d(16, 4, 1)
        self.cell, self.words = nn.GRUCell(16, 16), nn.Embedding(20, 16)

    def forward(self, image, state, ids):
        features = self.conv(image).relu()
        state = self.cell(features.mean((2, 3)) + self.words(ids).mean(1), state)
        boxes = self.box(features * state[:, :, None, None])
        others = {"best": boxes.argmax(1)} if self.integers else {}
        return {"boxes": boxes, "state_out": state, **others}

def tracker():
    return Tracker(True)

def floats():
    return Tracker(False)
"""
OPTIONS = ("image=3x16x16", "state=16", "ids=5:int64")
SHAPES = [part for each in OPTIONS for part in ("--input-shape", each)]


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    (tmp_path / "own_tracker.py").write_text(NETWORK)
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(str(tmp_path))
    write_samples(tmp_path / "in.npz", 24)
    yield tmp_path
    sys.modules.pop("own_tracker", None)


def write_samples(path: Path, count: int) -> dict[str, np.ndarray]:
    rng = np.random.default_rng(0)
    arrays: dict[str, Any] = {
        "image": rng.standard_normal((count, 3, 16, 16)).astype(np.float32),
        "state": rng.standard_normal((count, 16)).astype(np.float32),
        "ids": rng.integers(0, 20, (count, 5)),
    }
    np.savez(path, **arrays)
    return arrays


def exported(capsys: pytest.CaptureFixture[str], *args: str) -> dict[str, Any]:
    cli.main(["export", *args, "--json"], standalone_mode=False)
    return json.loads(capsys.readouterr().out)


def test_int8_of_several_inputs_and_outputs_is_calibrated_with_samples(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    pytest.importorskip("ai_edge_quantizer")
    options = ("--precision", "int8", "--samples", "in.npz", "--out", "net")
    result = exported(capsys, "own_tracker:tracker", *SHAPES, *options)
    assert result["verified_on"] == "6 samples"
    assert [each["path"] for each in result["artifacts"]] == ["net.onnx", "net.tflite"]
    for artifact in result["artifacts"]:
        assert (artifact["precision"], artifact["calibration"]) == ("int8", "minmax")
        outputs = {each["name"]: each for each in artifact["parity"]["outputs"]}
        assert 12 < outputs["boxes"]["sqnr_db"] < 60 and 12 < outputs["state_out"]["sqnr_db"] < 60
        assert 0.8 <= outputs["best"]["agreement"] <= 1


def test_int8_of_an_onnx_file_is_calibrated_with_samples(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    pytest.importorskip("ai_edge_quantizer")
    exported(capsys, "own_tracker:floats", *SHAPES, "--format", "onnx", "--out", "float")
    options = ("--precision", "int8", "--samples", "in.npz", "--out", "net")
    result = exported(capsys, "float.onnx", *options)
    for artifact in result["artifacts"]:
        assert artifact["precision"] == "int8" and artifact["parity"]["sqnr_db"] > 12


def test_files_of_floats_are_verified_on_samples(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    options = ("--samples", "in.npz", "--format", "tflite", "--out", "net")
    result = exported(capsys, "own_tracker:tracker", *SHAPES, *options)
    assert result["verified_on"] == "24 samples"
    [artifact] = result["artifacts"]
    assert artifact["parity"]["images"] == 24


@pytest.mark.parametrize(
    ("options", "kind", "message"),
    [
        (("--data", "fashion-mnist-6k", "--samples", "in.npz"), UsageError, "expected one of them"),
        (("--samples", "other.npz"), InvalidFile, "has x; expected an array for each of image, "),
        (("--samples", "one.npz"), InvalidFile, "has 1 sample; int8 needs several"),
        (("--samples", "floats.npz"), InvalidFile, "ids is float32; expected int64"),
        (("--samples", "in.npz", "--precision", "int4"), click.BadParameter, "int4 is not offered"),
    ],
)
def test_samples_that_do_not_fit_are_one_line(
    folder: Path, options: tuple[str, ...], kind: type[Exception], message: str
) -> None:
    arrays = write_samples(folder / "one.npz", 1)
    np.savez(folder / "floats.npz", **{**arrays, "ids": arrays["ids"].astype(np.float32)})
    np.savez(folder / "other.npz", x=arrays["image"])
    with pytest.raises((HwnasError, click.BadParameter)) as raised:
        command = ["export", "own_tracker:tracker", *SHAPES, "--precision", "int8", *options]
        cli.main(command, standalone_mode=False)
    assert isinstance(raised.value, kind)
    assert message in str(raised.value) and "\n" not in str(raised.value)
    assert not list(folder.glob("model.*"))


def test_one_of_four_samples_verifies_and_the_others_calibrate(tmp_path: Path) -> None:
    values = np.arange(10, dtype=np.float64)[:, None] + np.zeros(3)
    np.savez(tmp_path / "in.npz", x=values)
    inputs = (ModuleInput("x", (1, 3)),)
    samples = read_samples(tmp_path / "in.npz", inputs, int8=True)
    assert samples.verification[0][:, 0].tolist() == [0, 4, 8]
    assert samples.calibration[0][:, 0].tolist() == [1, 2, 3, 5, 6, 7, 9]
    assert samples.calibration[0].dtype == np.float32 and samples.calibration[0].shape == (7, 3)
    everything = read_samples(tmp_path / "in.npz", inputs)
    assert len(everything.verification[0]) == 10 and everything.calibration == ()
