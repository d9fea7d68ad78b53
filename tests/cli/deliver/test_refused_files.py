"""A model file that its runtime refuses is exit code 2 for commands that take it as input, and 4
where the file itself is verified."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path

import onnx
import pytest

from hwnas.cli.main import main
from tests.support.data.colours import RED, colour_file, write_colour

COMMANDS = (
    "benchmark FILE",
    "predict FILE a.png --input 0..1",
    "evaluate FILE --data . --input 0..1",
    "deploy FILE --no-device --input 0..1",
)


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    colour_file(tmp_path / "good.onnx")
    write_colour(Path("a.png"), RED)


def of_the_future(file: Path) -> str:
    model = onnx.load("good.onnx")
    model.ir_version = 99
    file.write_bytes(model.SerializeToString())
    return "IR version 99, but ONNX Runtime"


def cut_short(file: Path) -> str:
    content = Path("good.onnx").read_bytes()
    file.write_bytes(content[: len(content) // 2])
    return "not a whole ONNX file; was it copied completely?"


def of_another_format(file: Path) -> str:
    colour_file(file.with_suffix(".tflite")).rename(file)
    return "TFLite, not ONNX"


@pytest.mark.parametrize("command", [*COMMANDS, "verify FILE --model good.onnx"])
@pytest.mark.parametrize("damage", [of_the_future, cut_short, of_another_format])
def test_a_refused_file_is_one_line_with_the_same_exit_code(
    command: str,
    damage: Callable[[Path], str],
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    reason = damage(Path("bad.onnx"))
    words = command.replace("FILE", "bad.onnx").split()
    monkeypatch.setattr(sys, "argv", ["hwnas", *words])
    with pytest.raises(SystemExit) as ended:
        main()
    [line] = capsys.readouterr().err.splitlines()
    assert line.startswith("hwnas: bad.onnx: ") and reason in line
    assert ended.value.code == (4 if words[0] == "verify" else 2)
