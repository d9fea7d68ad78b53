"""Repairs the folders of runs before they continue: files that a killed run or a faulty disk
damaged."""

from __future__ import annotations

import os
import shlex
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path

import msgspec

from hwnas.errors import InvalidFile, UsageError
from hwnas.files import is_locked, previous, read_json, write_atomic, writing
from hwnas.integrity import is_intact_checkpoint, is_intact_line

PREVIOUS = ".previous"
"""Suffix of the stem of `hwnas.files.previous`."""


CONFIG, MANIFEST = "config.toml", "manifest.json"
"""The two files that hold the specification of a run."""


class _Manifest(msgspec.Struct, frozen=True):
    spec: dict[str, object] | None = None


def is_run(folder: Path) -> bool:
    """Return whether a run was begun in ``folder``, even if one of its files is lost or damaged."""
    if (folder / CONFIG).exists():
        return True
    with suppress(UsageError):
        return read_json(folder / MANIFEST, _Manifest).spec is not None
    return False


def unfinished(folder: Path) -> InvalidFile:
    """Return the error of a run that has no report yet."""
    if is_locked(folder):
        return InvalidFile(str(folder), "the run has not finished, a process is working in it")
    command = shlex.join(["hwnas", "specialize", "--resume", "--out", str(folder)])
    return InvalidFile(str(folder), f"the run has not finished; continue it with: {command}")


def recover(folder: Path, say: Callable[[str], None]) -> None:
    """Leave only intact files in ``folder`` and below; ``say`` names each that was damaged.

    Damaged lines of journals are removed. A damaged checkpoint is replaced by the previous one. If
    there is none, and for damaged JSON files, the file is renamed to ``NAME.damaged``, so that its
    step is done again. The caller must have locked the folder.
    """
    for path in sorted(folder.rglob("*.jsonl")):
        _remove_damaged_lines(path, say)
    for path in _checkpoints(folder):
        _restore_checkpoint(path, say)
    for path in sorted(folder.rglob("*.json")):
        if not is_json(path.read_bytes()):
            _set_aside(path, say)


def _remove_damaged_lines(path: Path, say: Callable[[str], None]) -> None:
    lines = path.read_bytes().split(b"\n")
    damaged = [number for number, line in enumerate(lines, 1) if not _is_whole(line)]
    if not damaged:
        return
    numbers = ", ".join(map(str, damaged[:5])) + (", …" if len(damaged) > 5 else "")
    noun, verb = ("line", "is") if len(damaged) == 1 else ("lines", "are")
    say(f"{path}: {noun} {numbers} {verb} damaged and left out; what is missing is done again")
    whole = [line for line in lines if line.strip() and _is_whole(line)]
    write_atomic(path, b"".join(line + b"\n" for line in whole))


def _is_whole(line: bytes) -> bool:
    return not line.strip() or (is_intact_line(line) and is_json(line))


def is_json(content: bytes) -> bool:
    """Return whether ``content`` is complete JSON of any kind."""
    try:
        msgspec.json.decode(content)
    except (msgspec.DecodeError, UnicodeDecodeError):
        return False
    return True


def _checkpoints(folder: Path) -> Iterator[Path]:
    """Yield the path of each checkpoint, even if only the previous one is left."""
    for path in sorted(folder.rglob("*.safetensors")):
        if not path.stem.endswith(PREVIOUS):
            yield path
        elif not (latest := path.with_name(path.name.replace(PREVIOUS, ""))).exists():
            yield latest


def _restore_checkpoint(path: Path, say: Callable[[str], None]) -> None:
    before, missing = previous(path), not path.exists()
    if not missing and is_intact_checkpoint(path.read_bytes()):
        return
    if before.exists() and is_intact_checkpoint(before.read_bytes()):
        with writing(path):
            os.replace(before, path)
        if not missing:
            say(f"{path}: damaged; the previous one is used, and the work since then is repeated")
    elif not missing:
        _set_aside(path, say)


def _set_aside(path: Path, say: Callable[[str], None]) -> None:
    aside = path.with_name(f"{path.name}.damaged")
    with writing(path):
        os.replace(path, aside)
    say(f"{path}: damaged, renamed to {aside.name}; its step is done again")
