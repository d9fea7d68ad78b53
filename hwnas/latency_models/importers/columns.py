"""CSV files with a header and with units in the names of columns.

Encoding and separator are those of `hwnas.delimited`; empty lines and lines that begin with ``#``
are skipped. A column of latencies or deviations is called ``ms``, ``us`` or ``s``, or ends in
``_ms``, ``_us`` or ``_s``: ``median_us``, ``std_ms``. A column without a unit is an error.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from difflib import get_close_matches
from typing import NamedTuple

from hwnas.delimited import read_lines
from hwnas.errors import InvalidFile

MS_PER = {"ms": 1.0, "us": 1e-3, "s": 1e3}
"""Milliseconds per unit."""

Row = Mapping[str, str]


class Table(NamedTuple):
    """Column names and rows of a CSV file, each row with its place in the file."""

    columns: tuple[str, ...]
    rows: tuple[tuple[str, Row], ...]

    def in_lower_case(self) -> Table:
        """Return the table with column names in `plain`'s spelling: ``In Size`` becomes
        ``in_size``.

        Names that would become equal are unchanged.
        """
        names = [re.sub(r"[\s-]+", "_", column.lower()) for column in self.columns]
        if len(set(names)) < len(names):
            return self
        rows = tuple(
            (place, dict(zip(names, row.values(), strict=True))) for place, row in self.rows
        )
        return Table(tuple(names), rows)


class Timed(NamedTuple):
    """A column with a unit."""

    column: str
    ms_per_unit: float


def read_csv(file: str, text: str) -> Table:
    """Read header and rows. Raises `InvalidFile` for a row with a wrong number of values."""
    lines = read_lines(file, text, decimal_commas=True)
    if len(lines) < 2:
        raise InvalidFile(file, "has no rows, expected a header and at least one row")
    header = _header(file, lines[0].values)
    for line in lines[1:]:
        if len(line.values) != len(header):
            raise InvalidFile(
                file,
                f"line {line.number} has {len(line.values)} values, the header has {len(header)} "
                "columns",
            )
    rows = [(f"line {line.number}", dict(zip(header, line.values, strict=True))) for line in lines]
    return Table(header, tuple(rows[1:]))


def unit_of(column: str) -> str | None:
    """Return the unit that a column's name ends in."""
    last = column.rsplit("_", 1)[-1]
    return last if last in MS_PER else None


def latency_column(file: str, columns: Sequence[str]) -> Timed:
    """Return the latency column. Raises `InvalidFile` if there is not exactly one."""
    timed = [column for column in columns if unit_of(column) and not column.startswith("std")]
    if not timed:
        raise InvalidFile(
            file,
            "has no latency column with a unit in its name; expected ms, us, s, or a name "
            f"that ends in _ms, _us or _s; found: {', '.join(columns)}",
        )
    if len(timed) > 1:
        raise InvalidFile(
            file, f"has {len(timed)} columns with a unit, {', '.join(timed)}; expected one latency"
        )
    return _timed(timed[0])


def deviation_column(file: str, columns: Iterable[str]) -> Timed | None:
    """Return the column of standard deviations (``std_ms``, ``std_us``, ``std_s``), if any."""
    named = [
        column for column in columns if column.startswith("std") and column != "standard_error"
    ]
    if any(unit_of(column) is None for column in named) or len(named) > 1:
        raise InvalidFile(
            file, f"has {', '.join(named)}; expected one column std_ms, std_us or std_s"
        )
    return _timed(named[0]) if named else None


def check_columns(
    file: str, columns: Iterable[str], known: Sequence[str], needed: Sequence[str]
) -> None:
    """Raise `InvalidFile` for an unknown or a missing column."""
    columns = list(columns)
    for column in columns:
        if column not in known:
            near = get_close_matches(column, known, n=1)
            hint = f", did you mean {near[0]!r}?" if near else ""
            raise InvalidFile(file, f"unknown column {column!r}{hint}; known: {', '.join(known)}")
    missing = [column for column in needed if column not in columns]
    if missing:
        raise InvalidFile(file, f"has no column {', '.join(missing)}; found: {', '.join(columns)}")


def _header(file: str, values: Sequence[str]) -> tuple[str, ...]:
    names = tuple(values)
    twice = sorted({name for name in names if names.count(name) > 1})
    if twice or "" in names:
        raise InvalidFile(file, f"the header has {(twice or [''])[0]!r} twice or an empty name")
    return names


def _timed(column: str) -> Timed:
    return Timed(column, MS_PER[unit_of(column) or "ms"])
