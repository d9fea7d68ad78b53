"""Errors in a user's module are one line, and no file is left behind."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from hwnas.cli.main import cli
from hwnas.errors import ExportError, HwnasError, UsageError, WriteError

NETWORKS = """
import torch
from torch import nn

def good():
    torch.manual_seed(0)
    return nn.Sequential(
        nn.Conv2d(1, 8, 3), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(8, 10)
    )

def broken():
    raise RuntimeError("no weights here\\nat all")

class Raises(nn.Module):
    def forward(self, x):
        raise ValueError("I do not like this\\nat all")

class Branches(nn.Module):
    def forward(self, x):
        return x.mean((2, 3)) if x.sum() > 0 else x.mean((2, 3)) * 2
"""
FILES = {
    "own_nets": NETWORKS,
    "own_unfinished": "x = (",
    "own_raising": "\nraise RuntimeError('at import')",
    "own_leaving": "import sys; sys.exit(3)",
}
SHAPE = ("--input-shape", "1x28x28", "--out", "made/net")


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    for name, text in FILES.items():
        (tmp_path / f"{name}.py").write_text(text)
        monkeypatch.delitem(sys.modules, name, raising=False)
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(str(tmp_path))
    yield tmp_path
    for name in FILES:
        sys.modules.pop(name, None)


def refused(*args: str) -> HwnasError:
    with pytest.raises(HwnasError) as raised:
        cli.main(["export", *args], standalone_mode=False)
    assert "\n" not in str(raised.value)
    return raised.value


@pytest.mark.parametrize(
    ("name", "message"),
    [
        (
            "own_nets.py",
            "own_nets.py: expected module:factory for a module of your own, e.g. own_nets:NAME",
        ),
        (
            "own_nets",
            "own_nets: expected module:factory for a module of your own, e.g. own_nets:NAME",
        ),
        ("own_nets.py:good", "own_nets.py:good: expected module:factory, e.g. own_nets:good"),
        ("own_nets:", "own_nets:: expected module:factory, e.g. own_nets:NAME"),
        ("own_nets:god", "'own_nets' has no 'god', did you mean 'good'?"),
        ("own_nets:broken", "broken() raised RuntimeError: no weights here (own_nets.py, line 12)"),
        ("own_unfinished:net", "raised SyntaxError: '(' was never closed (own_unfinished.py, line"),
        ("own_raising:net", "raised RuntimeError: at import (own_raising.py, line 2)"),
        ("own_leaving:net", "importing 'own_leaving' raised SystemExit: 3"),
    ],
)
def test_a_module_that_cannot_be_loaded_is_an_error_with_its_place(
    name: str, message: str, folder: Path
) -> None:
    error = refused(name, *SHAPE)
    assert isinstance(error, UsageError) and message in str(error)


@pytest.mark.parametrize(
    ("factory", "message"),
    [
        ("Raises", "Raises cannot compute images [1, 1, 28, 28]: I do not like this"),
        ("Branches", "a branch depends on the values of the input"),
    ],
)
def test_a_module_that_cannot_be_compiled_leaves_no_file(
    factory: str, message: str, folder: Path
) -> None:
    error = refused(f"own_nets:{factory}", *SHAPE)
    assert isinstance(error, ExportError) and message in str(error)
    assert not list(folder.glob("made/*"))


def test_a_path_that_cannot_be_written_is_an_error(folder: Path) -> None:
    (folder / "file").touch()
    (folder / "taken.onnx").mkdir()
    for out in ("file/net", "taken"):
        error = refused("own_nets:good", "--input-shape", "1x28x28", "--out", out)
        assert isinstance(error, WriteError) and f"{out}.onnx: cannot be written (" in str(error)
    assert {path.name for path in folder.iterdir()} - {"__pycache__"} == {
        *(f"{name}.py" for name in FILES), "file", "taken.onnx",
    }  # fmt: skip


def test_int8_needs_images(folder: Path) -> None:
    assert "--precision int8 needs --data" in str(
        refused("own_nets:good", *SHAPE, "--precision", "int8")
    )
    (folder / "empty").mkdir()
    assert isinstance(
        refused("own_nets:good", *SHAPE, "--precision", "int8", "--data", "empty"), UsageError
    )
    assert not (folder / "made").exists()
