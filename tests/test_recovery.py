"""Damaged files of a folder are named, and replaced by the state before where there is one."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import msgspec
import pytest
import torch

from hwnas.errors import HwnasError, WriteError
from hwnas.files import append_line, lock_folder, previous, read_lines, write_json
from hwnas.recovery import recover
from hwnas.training.checkpoint import load_checkpoint, save_checkpoint


class Line(msgspec.Struct):
    number: int


def recovered(folder: Path) -> list[str]:
    """Recover a folder and return what was damaged, with paths relative to it."""
    messages: list[str] = []
    recover(folder, messages.append)
    return [message.replace(f"{folder}/", "") for message in messages]


def save(path: Path, value: float) -> None:
    save_checkpoint(path, {"a": torch.full((100,), value)}, {}, keep_previous=True)


def value_of(path: Path) -> float:
    return load_checkpoint(path)[0]["a"][0].item()


def flip(path: Path, place: int) -> None:
    content = bytearray(path.read_bytes())
    content[place] ^= 1
    path.write_bytes(content)


@pytest.fixture
def checkpoint(tmp_path: Path) -> Path:
    """The third checkpoint of a training, with the second beside it."""
    path = tmp_path / "training" / "checkpoint.safetensors"
    for value in (1.0, 2.0, 3.0):
        save(path, value)
    return path


def test_nothing_is_changed_or_said_where_all_is_intact(checkpoint: Path, tmp_path: Path) -> None:
    append_line(tmp_path / "log.jsonl", Line(1))
    write_json(tmp_path / "plan.json", Line(2))
    before = {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()}
    assert recovered(tmp_path) == []
    assert before == {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()}
    assert value_of(previous(checkpoint)) == 2 and value_of(checkpoint) == 3


@pytest.mark.parametrize("damage", ["bit", "half", "empty"])
def test_the_checkpoint_before_a_damaged_one_is_used(
    checkpoint: Path, tmp_path: Path, damage: str
) -> None:
    if damage == "bit":
        flip(checkpoint, -1)
    else:
        whole = checkpoint.read_bytes()
        checkpoint.write_bytes(whole[: len(whole) // 2] if damage == "half" else b"")
    assert recovered(tmp_path) == [
        "training/checkpoint.safetensors: damaged; the previous one is used, and the work since "
        "then is repeated"
    ]
    assert value_of(checkpoint) == 2


def test_a_kill_between_two_renames_leaves_the_checkpoint_before(checkpoint: Path) -> None:
    checkpoint.unlink()
    assert recovered(checkpoint.parent) == []
    assert value_of(checkpoint) == 2


def test_where_both_are_damaged_the_step_begins_again(checkpoint: Path) -> None:
    for path in (checkpoint, previous(checkpoint)):
        flip(path, -1)
    [message] = recovered(checkpoint.parent)
    assert message == (
        "checkpoint.safetensors: damaged, renamed to checkpoint.safetensors.damaged; its step is "
        "done again"
    )
    assert not checkpoint.exists()
    assert recovered(checkpoint.parent) == []


def test_a_file_system_without_hard_links_keeps_the_checkpoint_before_too(
    checkpoint: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: object) -> None:
        raise PermissionError(1, "Operation not permitted")

    monkeypatch.setattr(os, "link", refuse)
    save(checkpoint, 4.0)
    assert (value_of(previous(checkpoint)), value_of(checkpoint)) == (3, 4)


def test_damaged_lines_leave_the_journal_and_are_named(tmp_path: Path) -> None:
    journal = tmp_path / "journal.jsonl"
    for number in range(6):
        append_line(journal, Line(number))
    lines = journal.read_bytes().split(b"\n")
    lines[1] = lines[1].replace(b"1", b"8", 1)
    lines[3] = b"\0" * 20
    lines[5] = lines[5][:4]
    journal.write_bytes(b"\n".join(lines[:6]))
    assert [line.number for line in read_lines(journal, Line)] == [0, 2, 4]
    assert recovered(tmp_path) == [
        "journal.jsonl: lines 2, 4, 6 are damaged and left out; what is missing is done again"
    ]
    assert [line.number for line in read_lines(journal, Line)] == [0, 2, 4]
    assert recovered(tmp_path) == []


def test_a_json_file_that_cannot_be_read_is_set_aside(tmp_path: Path) -> None:
    write_json(tmp_path / "plan.json", Line(1))
    content = (tmp_path / "plan.json").read_bytes()
    (tmp_path / "plan.json").write_bytes(content[:-4])
    assert recovered(tmp_path) == [
        "plan.json: damaged, renamed to plan.json.damaged; its step is done again"
    ]
    assert (tmp_path / "plan.json.damaged").read_bytes() == content[:-4]


def test_locking_a_folder_removes_what_a_killed_process_was_writing(tmp_path: Path) -> None:
    with subprocess.Popen(["true"]) as ended:
        pass
    below = tmp_path / "training"
    below.mkdir()
    stale = [below / f".checkpoint.safetensors.{ended.pid}.tmp", tmp_path / f".a.{ended.pid}.tmp"]
    running = tmp_path / f".b.json.{os.getpid()}.tmp"
    own = [running, tmp_path / ".notes.tmp", tmp_path / "data.1.tmp"]
    for path in [*stale, *own]:
        path.write_bytes(b"half")
    with lock_folder(tmp_path):
        assert not any(path.exists() for path in stale)
        assert all(path.exists() for path in own)


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="this system has no /dev/full")
def test_a_full_disk_is_an_error_that_names_the_file(tmp_path: Path) -> None:
    (tmp_path / "journal.jsonl").symlink_to("/dev/full")
    with pytest.raises(WriteError, match=r"journal\.jsonl: cannot be written \(No space left"):
        append_line(tmp_path / "journal.jsonl", Line(1))


def test_a_line_that_does_not_fit_leaves_the_journal_as_it_was(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    journal = tmp_path / "journal.jsonl"
    append_line(journal, Line(1))
    before, write = journal.read_bytes(), os.write

    def write_half(descriptor: int, content: bytes) -> int:
        if len(content) < 10:
            raise OSError(28, "No space left on device")
        return write(descriptor, content[:-9])

    monkeypatch.setattr(os, "write", write_half)
    with pytest.raises(HwnasError, match="No space left"):
        append_line(journal, Line(2))
    assert journal.read_bytes() == before
