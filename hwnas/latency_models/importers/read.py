"""Read published latency tables, in one of four dialects.

``proxylessnas`` and ``ofa``: YAML or JSON by layers (`layer_tables`); ``nn-meter``: kernels in CSV
(`kernels`); ``csv``: plain CSV (`plain`).
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from statistics import median
from typing import Literal, get_args

import msgspec

from hwnas.delimited import decode_text
from hwnas.errors import InvalidFile, UnknownName
from hwnas.files import read_bytes
from hwnas.latency_models.importers.columns import read_csv
from hwnas.latency_models.importers.kernels import is_kernels, read_kernels
from hwnas.latency_models.importers.layer_tables import Table, guess, read_tables, tables_of
from hwnas.latency_models.importers.mappings import read_mapping
from hwnas.latency_models.importers.plain import read_plain
from hwnas.latency_models.observation import Observation

Dialect = Literal["proxylessnas", "ofa", "nn-meter", "csv"]
DIALECTS: tuple[Dialect, ...] = get_args(Dialect)

MIN_MACS_PER_S, MAX_MACS_PER_S = 5e7, 5e12
"""Plausible speeds at batch 1, from a microcontroller to a large GPU."""
MAX_RATE_FACTOR = 300
"""A row whose rate differs from the median by a larger factor is probably in another unit."""
MIN_MACS = 1_000_000
"""Rows with fewer MACs are not checked: their latency hardly depends on the MACs."""


class Imported(msgspec.Struct, frozen=True):
    """The observations of a file, its dialect, and notes for the user."""

    observations: tuple[Observation, ...]
    dialect: Dialect
    notes: tuple[str, ...]
    batch: int = 1
    """Inputs per call."""


def read_observations(
    path: Path, dialect: Dialect | None = None, resolution: int | None = None
) -> Imported:
    """Read a file, or a folder with one table of layers for each input size.

    The dialect is detected from the content if it is not given. ``resolution`` selects the
    table for one input size, in pixels. Raises an `InvalidFile` that names the first wrong row.
    """
    if dialect is not None and dialect not in DIALECTS:
        raise UnknownName("dialect", dialect, DIALECTS)
    batch = 1
    if dialect in ("proxylessnas", "ofa") or (dialect is None and _is_layers(path)):
        observations, dialect, notes = _layers(path, dialect, resolution)
    else:
        if resolution is not None:
            raise InvalidFile(
                str(path), "is CSV, but a resolution selects among tables of layers (YAML or JSON)"
            )
        observations, dialect, notes, batch = _csv(path, dialect)
    if not observations:
        raise InvalidFile(str(path), "has no rows, expected at least one latency")
    return Imported(tuple(observations), dialect, (*notes, *_unit_notes(observations)), batch)


def _is_layers(path: Path) -> bool:
    """Whether a file has nested mappings, by its suffix or else by its first line."""
    if path.is_dir() or path.suffix.lower() in (".yaml", ".yml", ".json"):
        return True
    if path.suffix.lower() in (".csv", ".tsv"):
        return False
    lines = (line.strip() for line in _text(path).splitlines())
    first = next((line for line in lines if line and not line.startswith("#")), "")
    return first.startswith("{") or first.endswith(":") or ("-input:" in first and "," not in first)


def _layers(
    path: Path, dialect: Dialect | None, resolution: int | None
) -> tuple[list[Observation], Dialect, list[str]]:
    tables: list[tuple[str, Table]] = []
    for file in _files(path):
        tables += [
            (str(file), table)
            for table in tables_of(str(file), read_mapping(str(file), _text(file)))
        ]
    dialect = dialect or guess([table for _, table in tables])
    if dialect not in ("proxylessnas", "ofa"):
        raise InvalidFile(
            str(path),
            "is not a latency table: no row has the name of a layer, e.g. 'Conv_1-input:7x7x320-"
            f"output:7x7x1280'; known dialects: {', '.join(DIALECTS)}",
        )
    if resolution is not None:
        available = [str(table.resolution) for _, table in tables]
        tables = [(file, table) for file, table in tables if table.resolution == resolution]
        if not tables:
            raise UnknownName(
                f"table in {path}", f"{resolution} px", [f"{px} px" for px in available]
            )
    observations: list[Observation] = []
    notes: list[str] = []
    for file, table in tables:
        rows, more = read_tables(file, [table], dialect)
        observations += rows
        notes += more
    return observations, dialect, notes


def _csv(path: Path, dialect: Dialect | None) -> tuple[list[Observation], Dialect, list[str], int]:
    table = read_csv(str(path), _text(path))
    if dialect == "nn-meter" or (dialect is None and is_kernels(table)):
        observations, notes = read_kernels(str(path), table)
        return observations, "nn-meter", notes, 1
    observations, notes, batch = read_plain(str(path), table.in_lower_case())
    return observations, "csv", notes, batch


def _files(path: Path) -> list[Path]:
    if not path.is_dir():
        return [path]
    kinds = (".yaml", ".yml", ".json")
    files = sorted(file for file in path.iterdir() if file.suffix.lower() in kinds)
    if not files:
        raise InvalidFile(str(path), f"has no file that ends in {', '.join(kinds)}")
    return files


def _text(path: Path) -> str:
    text = decode_text(str(path), read_bytes(path))
    if not text.strip():
        raise InvalidFile(str(path), "is empty")
    return text


def _unit_notes(observations: Sequence[Observation]) -> list[str]:
    """Return notes on latencies that are implausible in ms for the MACs of the row."""
    rates = [
        (observation, macs / (observation.ms / 1e3))
        for observation in observations
        if (macs := sum(block.macs for block in observation.blocks)) >= MIN_MACS
    ]
    if not rates:
        return []
    typical = median(rate for _, rate in rates)
    notes: list[str] = []
    if not MIN_MACS_PER_S < typical < MAX_MACS_PER_S:
        speed = "slow" if typical <= MIN_MACS_PER_S else "fast"
        notes.append(
            f"the median row computes {typical / 1e9:.3g} billion MACs per second, which is too "
            f"{speed} for any processor: is the unit right?"
        )
    outliers = [
        row for row, rate in rates if not 1 / MAX_RATE_FACTOR < rate / typical < MAX_RATE_FACTOR
    ]
    if outliers:
        keys = "; ".join(block.label for block in outliers[0].blocks)
        notes.append(
            f"{len(outliers)} row(s) differ from the others by a factor above {MAX_RATE_FACTOR}, "
            f"as if in another unit, e.g. {keys}: {outliers[0].ms:g} ms"
        )
    return notes
