"""Text files of columns as other programs write them: encoding, separator and decimal sign.

Spreadsheets with a decimal comma separate columns by semicolons; cells copied from a spreadsheet
are separated by tabs; Excel begins UTF-8 with a byte order mark and may write ``sep=;`` in the
first line.
"""

from __future__ import annotations

import csv
import re
from collections.abc import Iterator, Sequence
from typing import NamedTuple

from hwnas.errors import InvalidFile

SEPARATORS = ("\t", ",", ";", "|")
SEPARATOR_LINE = re.compile(r"sep=(.)", re.IGNORECASE)
DECIMAL_COMMA = re.compile(r"[-+]?[0-9]*,[0-9]+")
DECIMAL_POINT = re.compile(r"[-+]?[0-9]*\.[0-9]+")
THOUSANDS = re.compile(r"[-+]?[1-9][0-9]{0,2},[0-9]{3}")
"""A number whose comma may separate thousands or decimals."""


class Line(NamedTuple):
    """A line with its number in the file, from 1 on."""

    number: int
    values: tuple[str, ...]


def decode_text(file: str, content: bytes) -> str:
    """Decode UTF-8, or UTF-16 with its mark. Raises `InvalidFile`."""
    encoding = "utf-16" if content[:2] in (b"\xff\xfe", b"\xfe\xff") else "utf-8-sig"
    try:
        return content.decode(encoding)
    except UnicodeDecodeError as error:
        line = content[: error.start].count(b"\n") + 1
        raise InvalidFile(file, f"line {line} is not UTF-8 text; save it as CSV in UTF-8") from None


def read_lines(
    file: str, text: str, separator: str = "", *, decimal_commas: bool = False
) -> list[Line]:
    """Split text into lines of values, without empty lines and lines that begin with ``#``.

    The separator is that of the first line if it is not given. With ``decimal_commas`` and another
    separator than the comma, numbers may have a decimal comma; it becomes a point. Raises
    `InvalidFile`.
    """
    separator, lines = _separator(text, separator)
    rows: list[Line] = []
    reader = csv.reader(lines, delimiter=separator, strict=True, skipinitialspace=True)
    try:
        for values in reader:
            stripped = tuple(value.strip() for value in values)
            if any(stripped):
                rows.append(Line(reader.line_num, stripped))
    except csv.Error as error:
        raise InvalidFile(file, f"line {reader.line_num}: {error}") from None
    return _with_points(file, rows) if decimal_commas and separator != "," else rows


def _separator(text: str, separator: str) -> tuple[str, Iterator[str]]:
    """Return the separator, and the lines with comments replaced by empty lines."""
    lines = text.splitlines(keepends=True)
    content = [line for line in lines if line.strip() and not line.startswith("#")]
    first = content[0].strip() if content else ""
    named = SEPARATOR_LINE.fullmatch(first)
    if named is not None:
        separator = named[1]
    skipped = content[0] if named is not None else None
    rest = ("" if line.startswith("#") or line is skipped else line for line in lines)
    if not separator:
        separator = next((mark for mark in SEPARATORS if mark in first), ",")
    return separator, rest


def _with_points(file: str, rows: Sequence[Line]) -> list[Line]:
    """Return the rows with decimal points. Raises `InvalidFile` for a comma that may separate
    thousands."""
    cells = [(row.number, value) for row in rows for value in row.values]
    commas = [(number, value) for number, value in cells if DECIMAL_COMMA.fullmatch(value)]
    if not commas:
        return list(rows)
    points = [(number, value) for number, value in cells if DECIMAL_POINT.fullmatch(value)]
    number, value = commas[0]
    if points:
        raise InvalidFile(
            file,
            f"has decimal commas ({value} in line {number}) and decimal points ({points[0][1]} in "
            f"line {points[0][0]}); expected one of them",
        )
    if all(THOUSANDS.fullmatch(value) for _, value in commas):
        raise InvalidFile(
            file,
            f"line {number}: {value} may be {value.replace(',', '.')} or "
            f"{value.replace(',', '')}; write it without the comma",
        )
    return [row._replace(values=tuple(_with_point(value) for value in row.values)) for row in rows]


def _with_point(value: str) -> str:
    return value.replace(",", ".") if DECIMAL_COMMA.fullmatch(value) else value
