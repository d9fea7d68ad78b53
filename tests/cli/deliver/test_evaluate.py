"""`hwnas predict` and `hwnas evaluate`."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import pytest

from hwnas.cli.main import main
from tests.support.data import colours
from tests.support.data.colours import BLUE, GREEN, RED


@pytest.fixture
def model(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    monkeypatch.chdir(tmp_path)
    return str(colours.colour_file(tmp_path / "net.onnx"))


def run(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], *words: str
) -> tuple[int, str, str]:
    """Return exit code, stdout and stderr of a command."""
    monkeypatch.setattr(sys, "argv", ["hwnas", *words])
    with pytest.raises(SystemExit) as caught:
        main()
    output = capsys.readouterr()
    assert isinstance(caught.value.code, int)
    return caught.value.code, output.out, output.err


def test_predict_prints_a_line_for_each_image(
    model: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    for name, colour in (("a", RED), ("b", BLUE)):
        colours.write_colour(Path(f"{name}.png"), colour)
    code, out, err = run(monkeypatch, capsys, "predict", model, "a.png", "b.png")
    blue, green, red = (f"{score:.1%}" for score in colours.colour_scores(RED))
    first, second = out.splitlines()
    assert first in (
        f"a.png: red {red}, blue {blue}, green {green}",
        f"a.png: red {red}, green {green}, blue {blue}",
    )
    assert second.startswith("b.png: blue ") and (code, err) == (0, "")
    code, out, _ = run(monkeypatch, capsys, "predict", model, "a.png", "--json")
    [prediction] = json.loads(out)["predictions"]
    assert prediction["classes"][0]["name"] == "red" and prediction["image"] == "a.png"


def test_a_broken_image_ends_with_its_name_after_the_others(
    model: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    colours.write_colour(Path("a.png"), RED)
    Path("b.png").write_bytes(b"no image")
    code, out, err = run(monkeypatch, capsys, "predict", model, "a.png", "b.png")
    assert code == 2 and out.startswith("a.png: red") and err.startswith("hwnas: b.png: not a read")
    code, out, err = run(monkeypatch, capsys, "predict", model, "b.png", "a.png", "--skip-broken")
    assert code == 0 and out.startswith("a.png: red") and err.startswith("skipped: b.png")


def test_evaluate_writes_a_page_and_prints_the_accuracy(
    model: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    colours.colour_folder(Path("data"), {"red": [RED, RED], "green": [GREEN, BLUE]})
    code, out, err = run(monkeypatch, capsys, "evaluate", model, "--data", "data")
    assert code == 0 and Path("evaluation.html").exists() and "evaluating 4 images" in err
    first = "accuracy 75.0% (95 % interval 30.1% to 95.4%) on 4 images: all images of data, which"
    assert out.startswith(first)
    assert "mean accuracy of the classes 75.0%" in out and "blue (1)" in out
    words = ("evaluate", model, "--data", "data", "--out", "p.html", "--json", "--quiet")
    code, out, err = run(monkeypatch, capsys, *words)
    result = json.loads(out)
    assert (code, err) == (0, "") and Path("p.html").exists()
    assert result["accuracy"] == 0.75 and result["classes"][0]["name"] == "green"


def test_a_page_that_cannot_be_written_does_not_cost_the_result(
    model: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    colours.colour_folder(Path("data"), {"red": [RED, RED], "green": [GREEN, BLUE]})
    Path("file").write_text("")
    words = ("evaluate", model, "--data", "data", "--out", "file/page.html", "--quiet")
    code, out, err = run(monkeypatch, capsys, *words)
    assert code == 1 and out.startswith("accuracy 75.0%") and "page:" not in out
    assert err.startswith("hwnas: file/page.html: cannot be written") and err.count("\n") == 1


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--data", "nowhere"], "no data set named 'nowhere'"),
        (["--data", "cats"], "net.onnx: has none of the classes of cats (cat)"),
        (["--data", "data", "--out", "data"], "data' is a directory"),
        ([], "Missing option '--data'"),
    ],
)
def test_wrong_usage_is_one_line(
    model: str,
    words: list[str],
    message: str,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    colours.colour_folder(Path("data"), {"red": [RED]})
    colours.colour_folder(Path("cats"), {"cat": [RED]})
    code, out, err = run(monkeypatch, capsys, "evaluate", "net.onnx", "--quiet", *words)
    assert code == 2 and out == "" and message in err and err.count("\n") == 1


NETS = """
from torch import nn
from tests.support.data.colours import MeanColour

def colours():
    return MeanColour()

def four():
    return nn.Sequential(MeanColour(), nn.Linear(3, 4))
"""


def test_a_file_that_was_exported_with_the_data_needs_no_option(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("colour_nets.py").write_text(NETS)
    images = {"blue": [BLUE] * 6, "green": [GREEN] * 6, "red": [RED] * 6}
    colours.colour_folder(Path("data"), images)
    words = ["--input-shape", "3x8x8", "--data", "data", "--format", "tflite"]
    for factory in ("colours", "four"):
        line = ["export", f"colour_nets:{factory}", *words, "--out", factory]
        assert run(monkeypatch, capsys, *line)[0] == 0
    code, out, _ = run(monkeypatch, capsys, "evaluate", "colours.tflite", "--data", "data")
    assert code == 0 and out.startswith("accuracy 100.0%")
    code, _, err = run(monkeypatch, capsys, "evaluate", "four.tflite", "--data", "data")
    assert code == 2 and "four.tflite: does not state which values it takes" in err
