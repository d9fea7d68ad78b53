"""A kill at any moment leaves the old file or the new one, and whole lines."""

from __future__ import annotations

import os
from pathlib import Path

import msgspec
import pytest

from hwnas.errors import WriteError
from hwnas.files import append_line, home, read_lines, write_atomic, write_json


class Line(msgspec.Struct):
    number: int
    word: str = "ω"


def test_a_write_makes_its_folder_and_leaves_nothing_beside_the_file(tmp_path: Path) -> None:
    path = tmp_path / "new" / "file.txt"
    write_atomic(path, "größe")
    assert path.read_text("utf-8") == "größe"
    assert list(path.parent.iterdir()) == [path]


@pytest.mark.parametrize("step", ["fsync", "replace"])
def test_a_write_that_dies_leaves_the_old_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, step: str
) -> None:
    path = tmp_path / "file"
    write_atomic(path, b"old")

    def die(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(os, step, die)
    with pytest.raises(KeyboardInterrupt):
        write_atomic(path, b"new")
    assert path.read_bytes() == b"old"
    assert list(tmp_path.iterdir()) == [path]


def test_json_is_written_indented_and_ends_with_a_newline(tmp_path: Path) -> None:
    write_json(tmp_path / "a.json", Line(1))
    assert (tmp_path / "a.json").read_text("utf-8") == '{\n "number": 1,\n "word": "ω"\n}\n'


def test_a_journal_gives_back_what_was_appended_in_its_order(tmp_path: Path) -> None:
    path = tmp_path / "deep" / "journal.jsonl"
    for number in range(3):
        append_line(path, Line(number))
    assert list(read_lines(path, Line)) == [Line(0), Line(1), Line(2)]


def test_a_journal_that_is_not_there_has_no_lines(tmp_path: Path) -> None:
    assert list(read_lines(tmp_path / "none", Line)) == []


def test_a_line_cut_off_at_any_byte_spoils_only_itself(tmp_path: Path) -> None:
    path = tmp_path / "journal.jsonl"
    append_line(path, Line(0))
    before = path.read_bytes()
    whole = msgspec.json.encode(Line(1)) + b"\n"
    for cut in range(len(whole) - 1):
        path.write_bytes(before + whole[:cut])
        assert list(read_lines(path, Line)) == [Line(0)]
        append_line(path, Line(2))
        assert list(read_lines(path, Line)) == [Line(0), Line(2)]


def test_a_line_of_broken_bytes_is_passed_over(tmp_path: Path) -> None:
    path = tmp_path / "journal.jsonl"
    path.write_bytes(b'{"number": 1, "word": "\xff\xfe"}\n\0\0\0\n{"number": 2}\n')
    assert list(read_lines(path, Line)) == [Line(2)]


def test_the_environment_says_where_hwnas_keeps_its_files(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HWNAS_HOME", str(tmp_path))
    assert home() == tmp_path
    monkeypatch.setenv("HWNAS_HOME", "")
    assert home().name == "hwnas"


def test_a_file_where_a_folder_is_needed_is_named(tmp_path: Path) -> None:
    (tmp_path / "run").write_text("notes")
    with pytest.raises(WriteError, match=r"json: cannot be written \(.*/run is a file, expected"):
        write_atomic(tmp_path / "run" / "a" / "b.json", b"{}")
    assert (tmp_path / "run").read_text() == "notes"
