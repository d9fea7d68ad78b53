"""Predict a device from a few of its networks and block tables of other devices.

The tables are fitted to networks of the other devices, as a toolkit could ship them. They exclude
the predicted column, its other batch sizes and, in the second part, all columns of its class.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import click
import numpy as np

from tools.evaluate.latency_published.columns import seeds_of, tested
from tools.lib.latency import learn
from tools.lib.latency.bench import Bench, Floats
from tools.lib.latency.choice import informative_networks
from tools.lib.latency.score import FIGURES, Cache, figures, scores
from tools.lib.results import table

COUNTS = (10, 20, 50)
TABLE_NETWORKS = 1000
"""Networks that the table of another device is fitted to."""
CLASSES = {
    "GPU": ("1080ti", "2080ti", "titanx", "titan_xp"),
    "Xeon": ("silver", "gold"),
    "phone": ("pixel3", "samsung", "essential"),
}


def class_of(column: str) -> str:
    return next((name for name, begin in CLASSES.items() if column.startswith(begin)), "other")


def device_of(column: str) -> str:
    """Return the device of a column; all batch sizes of a GPU are one device."""
    return column.rsplit("_", 1)[0] if class_of(column) == "GPU" else column


PARTS: dict[str, Callable[[str, str], bool]] = {
    "no table": lambda mine, other: False,
    "tables of other devices": lambda mine, other: device_of(mine) != device_of(other),
    "tables of other classes": lambda mine, other: class_of(mine) != class_of(other),
}


def run(bench: Bench, cache: Cache, seeds: int, columns: Sequence[str]) -> None:
    """Fill the cache, seed after seed."""
    for seed in range(seeds):
        tables = _Tables(bench, seed)
        for count in COUNTS:
            train = informative_networks(bench, count, seed)
            test = tested(bench, train, seed)
            for column in columns:
                for part, among in PARTS.items():
                    key = f"{bench.name}/{column}/{count}/{part}/{seed}"
                    if key in cache.rows:
                        continue
                    sources = [tables.of(other) for other in columns if among(column, other)]
                    predictions = learn.gaussian(bench, train, test, bench.ms[column], sources)
                    cache.add(key, scores(predictions, bench.ms[column][test]))
        click.echo(f"{bench.name}: {seed + 1} of {seeds} seeds done", err=True)


class _Tables:
    """Tables of all columns, each fitted on first use."""

    def __init__(self, bench: Bench, seed: int) -> None:
        self.bench, self.tables = bench, dict[str, list[Floats]]()
        self.train = np.random.default_rng([seed, 2]).permutation(bench.rows)[:TABLE_NETWORKS]

    def of(self, column: str) -> list[Floats]:
        if column not in self.tables:
            ms = self.bench.ms[column]
            self.tables[column] = learn.tables_of(self.bench, self.train, ms)
        return self.tables[column]


def sections(bench: Bench, cache: Cache, columns: Sequence[str]) -> list[tuple[str, str]]:
    """Return a table of the mean over each class of devices, and one of all columns."""
    short: list[list[str]] = []
    long: list[list[str]] = []
    for count in COUNTS:
        for part in PARTS:
            seed_rows = {
                column: seeds_of(cache, bench.name, column, count, part) for column in columns
            }
            rows = {
                column: np.mean(rows, axis=0).tolist() for column, rows in seed_rows.items() if rows
            }
            for name in CLASSES:
                mine = [row for column, row in rows.items() if class_of(column) == name]
                run = min(
                    (len(seed_rows[column]) for column in rows if class_of(column) == name),
                    default=0,
                )
                if mine:
                    head = [str(count), name, part, str(run)]
                    short.append([*head, *figures(np.mean(mine, axis=0).tolist())])
            long += [
                [str(count), column, part, str(len(seed_rows[column])), *figures(row)]
                for column, row in rows.items()
            ]
    titles = ["K", "class", "known in addition to the K networks", "seeds", *FIGURES]
    return [
        (f"{bench.name}: mean of each class of devices", table(titles, short)),
        (f"{bench.name}: each column", table([titles[0], "column", *titles[2:]], long)),
    ]
