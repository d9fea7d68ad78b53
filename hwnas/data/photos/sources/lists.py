"""Lists of image files: lines of a path, a label and optionally a split.

``.csv`` has commas or semicolons, ``.tsv`` tabs, ``.txt`` any of them or blanks. Paths are relative
to the list's folder. A first line that names the columns (``path``, ``label``, ``split``) may be
there. Backslashes of Windows' paths are read as slashes.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from pathlib import Path

from hwnas.data.photos.labelled import FilePhotos, LabelledPhotos
from hwnas.data.photos.sources.dividing import (
    SPLIT_NAMES,
    Files,
    complete_splits,
    labelled,
    numbered,
    split_rule,
)
from hwnas.data.photos.sources.grouping import Groups, pattern_groups
from hwnas.data.photos.sources.missing import check_missing, located
from hwnas.delimited import SEPARATORS, Line, decode_text, read_lines
from hwnas.errors import InvalidFile
from hwnas.files import printable, read_bytes

LIST_SUFFIXES = (".csv", ".tsv", ".txt")
COLUMNS = {
    "path": (
        *("path", "file", "filename", "image", "filepath", "imagepath", "imagefile", "imagename"),
        *("imagefilename", "img", "imgpath", "imgfile", "imgname", "photo", "picture"),
    ),
    "label": (
        *("label", "class", "category", "target", "labels", "classname", "classlabel", "labelname"),
        "categoryname",
    ),
    "split": ("split", "set", "part", "subset", "partition", "datasplit", "dataset"),
}
"""Names of each column without blanks and underscores, in a first line that has names."""


def list_photos(path: Path, valid_share: float, group_by: str = "") -> LabelledPhotos:
    """Return the photos of a list. Raises `InvalidFile` with the number of a wrong line."""
    column = _column(path, group_by)
    of: dict[str, str] = {}
    parts: dict[str, Files] = {}
    numbers: dict[str, int] = {}
    missing: dict[int, str] = {}
    for number, (given, label, split), fields in _rows(path):
        where = f"{path}:{number}"
        name = located(path.parent, given)
        if name is None:
            missing[number] = given
            continue
        if name in numbers:
            raise InvalidFile(where, f"{given!r} is in line {numbers[name]} already")
        if not label:
            raise InvalidFile(where, f"{name!r} has no label")
        if split and split.lower() not in SPLIT_NAMES:
            raise InvalidFile(where, f"split {split!r}, expected train, valid or test")
        numbers[name] = number
        if column is not None:
            of[name] = fields[column] if column < len(fields) else ""
            if not of[name]:
                raise InvalidFile(where, f"{name!r} has no {group_by!r}, the group to divide by")
        part = SPLIT_NAMES[split.lower()] if split else ""
        parts.setdefault(part, {}).setdefault(label, []).append(name)
    check_missing(path, missing, len(numbers))
    if not numbers:
        raise InvalidFile(str(path), "has no lines, expected path,label")
    if "" in parts and len(parts) > 1:
        first = min(numbers[name] for files in parts[""].values() for name in files)
        raise InvalidFile(f"{path}:{first}", "has no split, which other lines have")
    _check_labels(path, parts, numbers)
    groups: Groups | None = Groups(group_by, of)
    if column is None:
        groups = pattern_groups(str(path), group_by, numbers)
    splits = complete_splits(str(path), parts, valid_share, groups)
    return labelled(
        str(path),
        path.stem,
        splits,
        lambda names: FilePhotos(path.parent, names),
        _ignored_columns(path, group_by),
        classes=numbered(splits[0]),
    )._replace(split=split_rule(sorted(parts), groups, splits))


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


def _column(path: Path, group_by: str) -> int | None:
    """Return the index of the column that ``group_by`` names, None if it names no column."""
    lower = [word.lower() for word in _column_names(path)]
    return lower.index(group_by.lower()) if group_by and group_by.lower() in lower else None


def _ignored_columns(path: Path, group_by: str) -> tuple[str, ...]:
    """Return the remark on the columns that have no meaning here."""
    names = _column_names(path)
    used = _header(names).values()
    ignored = [
        name
        for place, name in enumerate(names)
        if name and place not in used and name.lower() != group_by.lower()
    ]
    if not ignored:
        return ()
    listed = ", ".join(map(printable, ignored[:6])) + ", …" * (len(ignored) > 6)
    return (f"columns of {path.name} ignored: {listed}",)


def _column_names(path: Path) -> Sequence[str]:
    """Return the fields of the first line if they are names of columns, else nothing."""
    first = next(_lines(path), None)
    return first.values if first is not None and _header(first.values) else ()


def _rows(path: Path) -> Iterator[tuple[int, tuple[str, str, str], Sequence[str]]]:
    """Yield the number of each line, its path, label and split or an empty text, and all fields."""
    places: dict[str, int] | None = None
    most = 3
    for number, fields in _lines(path):
        if places is None:
            places = _header(fields)
            if places:
                if missing := {"path", "label"} - places.keys():
                    why = f"no column {sorted(missing)[0]!r}, expected path, label and maybe split"
                    raise InvalidFile(f"{path}:{number}", why)
                most = len(fields)
                continue
            places = {"path": 0, "label": 1, "split": 2}
        needed = max(places["path"], places["label"]) + 1
        if len(fields) < needed or len(fields) > most:
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
            fields,
        )


def _header(fields: Sequence[str]) -> dict[str, int]:
    """Return the indices of the columns that a first line names; empty if it names none."""
    words = [re.sub(r"[\W_]", "", field.lower()) for field in fields]
    places = {
        column: words.index(word)
        for column, names in COLUMNS.items()
        for word in reversed(names)
        if word in words
    }
    return places if len(places) >= 2 or "path" in places else {}


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
