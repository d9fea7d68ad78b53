"""Tables of layers as ProxylessNAS and Once-for-all publish them, in YAML or JSON.

A table maps the name of a layer (`layer_names`) to ``count``, ``mean`` in ms, and ``var``
(ProxylessNAS, ms²) or ``std`` (Once-for-all, ms), both of single runs; the count is the number of
whole networks in which the layer was profiled. The original programs use the mean only. A table is
for one input size; Once-for-all has one file per size, other projects pack them into one JSON
``{"unit": "ms", "tables": {"224": {…}, …}}``, in which names that begin with ``_`` are comments.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from math import hypot, sqrt
from reprlib import repr as shortened
from typing import NamedTuple

from hwnas.errors import InvalidFile
from hwnas.latency_models.importers.layer_names import (
    Layer,
    LayerDialect,
    block_of,
    mix,
    parse,
    shortcut_differs,
)
from hwnas.latency_models.importers.mappings import Entry
from hwnas.latency_models.importers.rows import (
    NamedObservation,
    WrongRow,
    collect,
    error_of_mean,
    latency_ms,
    spread,
    whole,
)
from hwnas.latency_models.observation import Observation

FIELDS = ("count", "mean", "var", "std")
_FIRST_CONV = re.compile(r"Conv-input:(\d{1,5})x", re.ASCII)


class Table(NamedTuple):
    """The rows for one input size in pixels (0 if it is unknown)."""

    resolution: int
    rows: tuple[Entry, ...]


def tables_of(file: str, top: tuple[Entry, ...]) -> list[Table]:
    """Return the tables of a file: the file itself, or those under its entry ``tables``."""
    packed = next((entry.inside for entry in top if entry.name == "tables"), None)
    if packed is None:
        return [Table(_resolution(top), top)]
    for place, name, value in top:
        if name == "unit" and str(value).split()[:1] != ["ms"]:
            raise InvalidFile(file, f"{place}: unit is {value!r}, expected 'ms'")
        if name not in ("unit", "tables") and not name.startswith("_"):
            raise InvalidFile(file, f"{place}: unknown entry {name!r}, expected 'tables' or 'unit'")
    tables: list[Table] = []
    for place, name, value in packed:
        rows = Entry(place, name, value).inside
        if rows is None or not name.isdecimal() or int(name) in {old.resolution for old in tables}:
            raise InvalidFile(
                file, f"tables, {place}: {name!r}, expected an input size in pixels, each once"
            )
        labelled = tuple(Entry(f"table {name}, {row.place}", row.name, row.value) for row in rows)
        if _resolution(rows) not in (0, int(name)):
            raise InvalidFile(
                file, f"the first layer of table {name!r} is for {_resolution(rows)} px"
            )
        tables.append(Table(int(name), labelled))
    return tables


def guess(tables: Sequence[Table]) -> LayerDialect | None:
    """Return the dialect of ``tables`` by the names of their layers."""
    names = [row.name for table in tables for row in table.rows]
    if any("-se:" in name or name.startswith(("AvgPool2D-", "Conv_2-")) for name in names):
        return "ofa"
    return "proxylessnas" if any("-input:" in name for name in names) else None


def read_tables(
    file: str, tables: Iterable[Table], dialect: LayerDialect
) -> tuple[list[Observation], list[str]]:
    """Return the blocks of all tables, and notes.

    Each table is read by itself, because tables of different sizes share the blocks after the pool.
    """
    observations: list[Observation] = []
    notes: list[str] = []
    for table in tables:
        reader = _Reader(dialect)
        pools = [row for row in table.rows if row.name.startswith("AvgPool2D-")]
        others = [row for row in table.rows if not row.name.startswith("AvgPool2D-")]
        # pools come first, because a Conv_2 row is read together with its pool
        rows = [(row.place, row) for row in (*pools, *others)]
        read, read_notes = collect(file, rows, reader.read)
        reader.check_pools(file)
        where = f"{table.resolution} px: " if table.resolution else ""
        observations += read
        notes += [where + note for note in (*read_notes, *reader.notes)]
    return observations, notes


class _Reader:
    """Reads the rows of one table."""

    def __init__(self, dialect: LayerDialect) -> None:
        self.dialect: LayerDialect = dialect
        self.pools: dict[Layer, tuple[Entry, float, float]] = {}
        """Row, latency in ms and its relative error of each ``AvgPool2D``."""
        self.used: set[Layer] = set()
        self.notes: list[str] = []

    def read(self, row: Entry) -> list[NamedObservation]:
        layer = parse(row.name, self.dialect)
        ms, error = _mean_and_error(row)
        if layer.kind == "AvgPool2D":
            known = self.pools.setdefault(layer, (row, ms, error))
            if known[1:] != (ms, error):
                raise WrongRow(f"{row.name!r} was {known[1]:g} ms in {known[0].place}")
            return []
        if layer.kind == "Conv_2":
            return self._mixes(row, layer, ms, error)
        block = block_of(row.name, layer, self.dialect)
        if shortcut_differs(layer, block):
            self.notes.append(f"{block.key}: the table has idskip:0, but this block adds its input")
        return [NamedObservation(row.name, Observation("in_network", (block,), ms, error))]

    def check_pools(self, file: str) -> None:
        for pool, (row, _, _) in self.pools.items():
            if pool not in self.used:
                raise InvalidFile(
                    file,
                    f"{row.place}: {row.name!r} has no matching row Conv_2 with "
                    f"{pool.in_channels} input channels",
                )

    def _mixes(self, row: Entry, conv: Layer, ms: float, error: float) -> list[NamedObservation]:
        pools = [pool for pool in self.pools if pool.out_channels == conv.in_channels]
        if not pools or conv.in_size != 1:
            raise WrongRow(
                f"{row.name!r} has no matching row AvgPool2D with {conv.in_channels} channels"
            )
        self.used.update(pools)
        mixes: list[NamedObservation] = []
        for pool in pools:
            _, pool_ms, pool_error = self.pools[pool]
            both = ms + pool_ms
            relative = hypot(ms * error, pool_ms * pool_error) / both
            block = mix(pool, conv)
            mixes.append(
                NamedObservation(block.key, Observation("in_network", (block,), both, relative))
            )
        return mixes


def _mean_and_error(row: Entry) -> tuple[float, float]:
    """Return the mean in ms, and its relative standard error (0 if it is unknown)."""
    if row.inside is None:
        raise WrongRow(
            f"{row.name!r} is {shortened(row.value)}, expected count, mean and var or std"
        )
    fields = {entry.name: entry.value for entry in row.inside}
    unknown = sorted(set(fields) - set(FIELDS))
    if unknown or len(fields) < len(row.inside) or "mean" not in fields:
        given = ", ".join(entry.name for entry in row.inside) or "nothing"
        raise WrongRow(f"{row.name!r} has {given}, expected count, mean and var or std, each once")
    mean_ms = latency_ms(f"mean of {row.name!r}", fields["mean"])
    if "count" not in fields or not {"var", "std"} & set(fields):
        return mean_ms, 0.0
    count = whole(f"count of {row.name!r}", fields["count"])
    if "std" in fields:
        return mean_ms, error_of_mean(spread("std", fields["std"]), count, mean_ms)
    return mean_ms, error_of_mean(sqrt(spread("var", fields["var"])), count, mean_ms)


def _resolution(rows: tuple[Entry, ...]) -> int:
    """Return the input size of the first convolution, 0 if ``rows`` have none or several sizes."""
    sizes = {match[1] for row in rows if (match := _FIRST_CONV.match(row.name))}
    return int(sizes.pop()) if len(sizes) == 1 else 0
