"""Lists of image files: lines of a path, a label and optionally a split.

``.csv`` has commas or semicolons, ``.tsv`` tabs, ``.txt`` any of them or blanks. Paths are relative
to the list's folder. A first line that names the columns (``path``, ``label``, ``split``) may be
there.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

from hwnas.data.photos.labelled import FilePhotos, LabelledPhotos
from hwnas.data.photos.sources.dividing import (
    SPLIT_NAMES,
    Files,
    complete_splits,
    labelled,
    numbered,
)
from hwnas.delimited import SEPARATORS, Line, decode_text, read_lines
from hwnas.errors import InvalidFile
from hwnas.files import read_bytes

LIST_SUFFIXES = (".csv", ".tsv", ".txt")
COLUMNS = {
    "path": ("path", "file", "filename", "image", "filepath"),
    "label": ("label", "class", "category", "target"),
    "split": ("split", "set", "part", "subset"),
}
"""Names of each column, in a first line that has names."""


def list_photos(path: Path, valid_share: float) -> LabelledPhotos:
    """Return the photos of a list. Raises `InvalidFile` with the number of a wrong line."""
    parts: dict[str, Files] = {}
    numbers: dict[str, int] = {}
    for number, (name, label, split) in _rows(path):
        where = f"{path}:{number}"
        if name in numbers:
            raise InvalidFile(where, f"{name!r} is in line {numbers[name]} already")
        if not (path.parent / name).is_file():
            raise InvalidFile(where, f"no file {name!r} in {path.parent}")
        if not label:
            raise InvalidFile(where, f"{name!r} has no label")
        if split and split.lower() not in SPLIT_NAMES:
            raise InvalidFile(where, f"split {split!r}, expected train, valid or test")
        numbers[name] = number
        part = SPLIT_NAMES[split.lower()] if split else ""
        parts.setdefault(part, {}).setdefault(label, []).append(name)
    if not numbers:
        raise InvalidFile(str(path), "has no lines, expected path,label")
    if "" in parts and len(parts) > 1:
        first = min(numbers[name] for files in parts[""].values() for name in files)
        raise InvalidFile(f"{path}:{first}", "has no split, which other lines have")
    _check_labels(path, parts, numbers)
    splits = complete_splits(str(path), parts, valid_share)
    return labelled(
        str(path),
        path.stem,
        splits,
        lambda names: FilePhotos(path.parent, names),
        classes=numbered(splits[0]),
    )


def _check_labels(path: Path, parts: dict[str, Files], numbers: dict[str, int]) -> None:
    """Raise `InvalidFile` for a label that no training image has, with its line."""
    if "train" not in parts:
        return
    for part, files in parts.items():
        for label in sorted(files.keys() - parts["train"].keys()):
            known = ", ".join(sorted(parts["train"])[:5])
            where = f"{path}:{numbers[files[label][0]]}"
            why = f"label {label!r} of a {part} image, expected one of the training images ({known}"
            raise InvalidFile(where, f"{why}{', …' * (len(parts['train']) > 5)})")


def _rows(path: Path) -> Iterator[tuple[int, tuple[str, str, str]]]:
    """Yield the number of each line, with its path, label and split or an empty text."""
    places: dict[str, int] | None = None
    for number, fields in _lines(path):
        if places is None:
            places = _header(fields)
            if places:
                if missing := {"path", "label"} - places.keys():
                    why = f"no column {sorted(missing)[0]!r}, expected path, label and maybe split"
                    raise InvalidFile(f"{path}:{number}", why)
                continue
            places = {"path": 0, "label": 1, "split": 2}
        needed = max(places["path"], places["label"]) + 1
        most = max(places.values()) + 1 if len(places) < 3 or places["split"] != 2 else 3
        if len(fields) < needed or (most == 3 and len(fields) > 3):
            why = f"{len(fields)} fields, expected path, label and maybe split"
            raise InvalidFile(f"{path}:{number}", why)
        split = places.get("split", len(fields))
        yield (
            number,
            (
                fields[places["path"]],
                fields[places["label"]],
                fields[split] if split < len(fields) else "",
            ),
        )


def _header(fields: Sequence[str]) -> dict[str, int]:
    """Return the places of the columns that a first line names; empty if it names none."""
    words = [field.lower() for field in fields]
    places = {
        column: words.index(word)
        for column, names in COLUMNS.items()
        for word in reversed(names)
        if word in words
    }
    return places if len(places) >= 2 or "path" in words else {}


def _lines(path: Path) -> Iterator[Line]:
    text = decode_text(str(path), read_bytes(path))
    suffix = path.suffix.lower()
    first = next((line for line in text.splitlines() if line.strip()), "")
    if suffix == ".txt" and not any(mark in first for mark in SEPARATORS):
        for number, line in enumerate(text.splitlines(), 1):
            if line.strip() and not line.startswith("#"):
                yield Line(number, tuple(line.split()))
        return
    yield from read_lines(str(path), text, "\t" if suffix == ".tsv" else "")
