"""A change of any byte of a sealed line or checkpoint is noticed."""

from __future__ import annotations

import json
from pathlib import Path

import msgspec
import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load, save

from hwnas.integrity import (
    is_intact_checkpoint,
    is_intact_line,
    seal_checkpoint,
    seal_line,
)

LINE = seal_line(msgspec.json.encode({"stage": "final", "ms": 1.25}))
NOTES = {"place": "3", "b": "4", "a": "5", "line": '{"loss": 1}'}
CHECKPOINT = seal_checkpoint(save({"a": torch.arange(5.0), "b": torch.tensor(7)}, metadata=NOTES))


def test_a_sealed_line_is_the_object_with_one_more_field() -> None:
    assert is_intact_line(LINE)
    assert json.loads(LINE) == {"stage": "final", "ms": 1.25, "check": LINE[-10:-2].decode()}


def test_no_digit_of_a_sealed_line_can_change_unnoticed() -> None:
    for place, byte in enumerate(LINE):
        if chr(byte).isdigit():
            other = b"%c" % (ord("0") + (byte - ord("0") + 1) % 10)
            assert not is_intact_line(LINE[:place] + other + LINE[place + 1 :]), place


@pytest.mark.parametrize("line", [b"{}", b"[1]", b'"word"', b'{"from": "elsewhere"}'])
def test_a_line_without_a_hash_is_taken_as_it_is(line: bytes) -> None:
    assert is_intact_line(line)


@pytest.mark.parametrize("line", [b"{}", b"[1]", b"7"])
def test_a_line_that_is_no_object_with_fields_stays_as_it_is(line: bytes) -> None:
    assert seal_line(line) == line


def test_a_sealed_checkpoint_holds_the_same_tensors_and_notes(tmp_path: Path) -> None:
    assert is_intact_checkpoint(CHECKPOINT)
    assert load(CHECKPOINT)["a"].tolist() == [0, 1, 2, 3, 4]
    (tmp_path / "a").write_bytes(CHECKPOINT)
    with safe_open(tmp_path / "a", framework="pt") as file:
        notes = file.metadata()
    assert len(notes.pop("sha256")) == 64 and notes == NOTES


def test_the_same_tensors_and_notes_are_the_same_file() -> None:
    """Safetensors writes notes in an order that differs from one call to the next."""
    assert all(
        seal_checkpoint(save({"a": torch.arange(5.0), "b": torch.tensor(7)}, metadata=dict(NOTES)))
        == CHECKPOINT
        for _ in range(20)
    )


def test_no_bit_of_a_sealed_checkpoint_can_change_unnoticed() -> None:
    assert len(CHECKPOINT) < 500
    for place in range(len(CHECKPOINT)):
        damaged = bytearray(CHECKPOINT)
        damaged[place] ^= 1 << place % 8
        try:
            same = load(bytes(damaged)).keys() == load(CHECKPOINT).keys()
        except Exception:  # safetensors refuses what it can't parse
            continue
        if same and is_intact_checkpoint(bytes(damaged)):  # a file without a hash is taken
            assert b'"sha256":"' not in damaged, place


def test_a_checkpoint_that_is_cut_off_anywhere_is_not_intact() -> None:
    assert not any(is_intact_checkpoint(CHECKPOINT[:size]) for size in range(len(CHECKPOINT)))


def test_a_checkpoint_without_a_hash_is_taken_as_it_is() -> None:
    assert is_intact_checkpoint(save({"a": torch.zeros(2)}))
