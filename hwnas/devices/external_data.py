"""Files beside an ONNX file that hold its weights, read from its protobuf without the onnx package.

A file above 2 GB must keep its weights in other files, and many exporters write them so. The
weights themselves are skipped: only the fields on the way to their names are read.
"""

from __future__ import annotations

import mmap
from collections.abc import Iterator
from pathlib import Path

from hwnas.errors import InvalidFile
from hwnas.files import check_no_pointer

Message = dict[int, "Message"]
"""The fields of a kind of message that are messages on the way to external data, by number."""

ENTRIES = 13
"""Number of a tensor's field with the entries of its external data."""

TENSOR: Message = {}
GRAPH: Message = {5: TENSOR}
ATTRIBUTE: Message = {5: TENSOR, 6: GRAPH, 10: TENSOR, 11: GRAPH}
NODE: Message = {5: ATTRIBUTE}
GRAPH[1] = NODE
MODEL: Message = {7: GRAPH, 25: {7: NODE}}
"""``ModelProto`` with its graph and its functions."""

LENGTH_DELIMITED = 2
FIXED_BYTES = {1: 8, 5: 4}
"""Bytes of a field of fixed size, by its wire type."""


def check_present(path: Path) -> None:
    """Raise `InvalidFile` for an incomplete model file or external weight file.

    A clone without Git LFS has pointers in the place of files.
    """
    if not path.is_file():
        raise InvalidFile(str(path), "is not a file" if path.exists() else "no such file")
    needed = {path.parent / name: size for name, size in _needed_bytes(path).items()}
    for file in (path, *external_files(path)):
        check_no_pointer(file)
        if (size := file.stat().st_size) < needed.get(file, 0):
            raise InvalidFile(
                str(file),
                f"is cut short: {size:,} bytes of weights, {path.name} needs {needed[file]:,}",
            )


def external_files(path: Path) -> list[Path]:
    """Return the external weight files of an ONNX file, in its folder or below.

    Other model files have none. Raises `InvalidFile` for a missing file, and for a path that leads
    out of the folder.
    """
    return [_inside(path, name) for name in sorted(_needed_bytes(path))]


def _needed_bytes(path: Path) -> dict[str, int]:
    """Return the least size in bytes of each external weight file, by its name in an ONNX file."""
    needed: dict[str, int] = {}
    if path.suffix != ".onnx":
        return needed
    try:
        with open(path, "rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as data:
            for start, end in _tensors(data, 0, len(data), MODEL):
                entries = _external_entries(data, start, end)
                if (name := entries.get("location")) is not None:
                    last = int(entries.get("offset", 0)) + int(entries.get("length", 0))
                    needed[name] = max(needed.get(name, 0), last)
    except (IndexError, ValueError, OSError):  # damaged, or empty: its runtime says so
        return {}
    return needed


def files_beside(path: Path) -> list[Path]:
    """Return the external weight files, to copy them.

    Raises `InvalidFile` as `external_files`, and for files in folders below.
    """
    files = external_files(path)
    for file in files:
        if file.parent != path.parent:
            raise InvalidFile(
                str(path), f"its weights are in {file}; files of weights are copied beside it only"
            )
    return files


def _inside(path: Path, name: str) -> Path:
    if not name or Path(name).is_absolute() or ".." in Path(name).parts:
        raise InvalidFile(
            str(path), f"its weights are in {name!r}; expected a file in the same folder"
        )
    file = path.parent / name
    if not file.is_file():
        raise InvalidFile(str(path), f"its weights are in {name}, which is not beside it")
    return file


def _tensors(data: mmap.mmap, start: int, end: int, kind: Message) -> Iterator[tuple[int, int]]:
    """Yield where tensors begin and end in a message."""
    for number, (first, last) in _fields(data, start, end):
        inner = kind.get(number)
        if inner is TENSOR:
            yield first, last
        elif inner is not None:
            yield from _tensors(data, first, last, inner)


def _external_entries(data: mmap.mmap, start: int, end: int) -> dict[str, str]:
    """Return the entries of a tensor's external data: location, and maybe offset and length."""
    entries: dict[str, str] = {}
    for number, (first, last) in _fields(data, start, end):
        if number == ENTRIES:
            fields = dict(_fields(data, first, last))
            entries[_text(data, fields, 1)] = _text(data, fields, 2)
    return entries


def _fields(data: mmap.mmap, start: int, end: int) -> Iterator[tuple[int, tuple[int, int]]]:
    """Yield the fields of a message that have a length: number, begin and end."""
    while start < end:
        key, start = _varint(data, start)
        number, wire_type = key >> 3, key & 7
        if wire_type == LENGTH_DELIMITED:
            length, start = _varint(data, start)
            if start + length > end:
                raise ValueError("a field ends behind its message")
            yield number, (start, start + length)
            start += length
        elif wire_type in FIXED_BYTES:
            start += FIXED_BYTES[wire_type]
        elif wire_type == 0:
            _, start = _varint(data, start)
        else:
            raise ValueError(f"unknown wire type {wire_type}")


def _varint(data: mmap.mmap, start: int) -> tuple[int, int]:
    """Return a number of seven bits per byte, and the position after it."""
    value = 0
    for place in range(10):
        byte = data[start + place]
        value |= (byte & 127) << (7 * place)
        if byte < 128:
            return value, start + place + 1
    raise ValueError("a number of more than ten bytes")


def _text(data: mmap.mmap, fields: dict[int, tuple[int, int]], number: int) -> str:
    start, end = fields.get(number, (0, 0))
    return data[start:end].decode()
