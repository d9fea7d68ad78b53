"""Checkpoints come back to the bit, or not at all."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
import torch

from hwnas.errors import InvalidFile, WriteError
from hwnas.training.checkpoint import load_checkpoint, save_checkpoint


def test_tensors_and_notes_come_back_to_the_bit(tmp_path: Path) -> None:
    path = tmp_path / "deep" / "a.safetensors"
    tensors = {
        "weight": torch.randn(4, 3, 5, 5).to(memory_format=torch.channels_last),
        "view": torch.randn(6, 6)[1:3, ::2],
        "count": torch.tensor(7),
        "double": torch.tensor(1 / 3, dtype=torch.float64),
        "trained": torch.nn.Parameter(torch.randn(2)),
    }
    save_checkpoint(path, tensors, {"epochs": "3"})
    loaded, notes = load_checkpoint(path)
    assert notes == {"epochs": "3"} and loaded.keys() == tensors.keys()
    for name, tensor in tensors.items():
        assert loaded[name].dtype == tensor.dtype and torch.equal(loaded[name], tensor)


def test_two_names_of_one_tensor_are_both_kept(tmp_path: Path) -> None:
    shared = torch.randn(3)
    save_checkpoint(tmp_path / "a", {"one": shared, "two": shared}, {})
    assert torch.equal(load_checkpoint(tmp_path / "a")[0]["two"], shared)


@pytest.mark.parametrize("damage", ["empty", "cut", "bit", "header", "text", "folder", "missing"])
def test_a_corrupt_checkpoint_is_an_invalid_file_that_is_named(tmp_path: Path, damage: str) -> None:
    path = tmp_path / "a.safetensors"
    save_checkpoint(path, {"weight": torch.zeros(100)}, {})
    whole = path.read_bytes()
    path.unlink()
    if damage == "folder":
        path.mkdir()
    elif damage != "missing":
        flipped = whole[:-1] + b"\1"
        texts = {
            "bit": flipped,
            "empty": b"",
            "cut": whole[:-1],
            "header": b"\xff" * 8 + whole[8:],
            "text": b"hi",
        }
        path.write_bytes(texts[damage])
    with pytest.raises(InvalidFile, match=r"a\.safetensors: not a readable checkpoint"):
        load_checkpoint(path)


def test_a_save_that_dies_leaves_the_old_checkpoint(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "a"
    save_checkpoint(path, {"weight": torch.zeros(2)}, {"epochs": "1"})

    def die(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "replace", die)
    with pytest.raises(WriteError, match=r"a: cannot be written \(No space left on device\)"):
        save_checkpoint(path, {"weight": torch.ones(2)}, {"epochs": "2"})
    tensors, notes = load_checkpoint(path)
    assert notes == {"epochs": "1"} and torch.equal(tensors["weight"], torch.zeros(2))
    assert list(tmp_path.iterdir()) == [path]
