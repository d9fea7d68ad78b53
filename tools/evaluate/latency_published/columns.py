"""Every device column: predict its networks from a few, with plain methods as baselines."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import click
import numpy as np

from tools.lib.latency import learn
from tools.lib.latency.bench import Bench, Index
from tools.lib.latency.choice import informative_networks, random_networks
from tools.lib.latency.score import FIGURES, Cache, figures, scores, without_interval
from tools.lib.results import table

COUNTS = (10, 20, 50, 100, 900)
SLOW_COUNT = 900
TEST_NETWORKS = 1000
"""Networks that each run predicts, drawn from those that were not measured."""

PLAIN = {
    "line on MACs": learn.line_on_macs,
    "ridge on counts": learn.ridge_on_counts,
    "additive table": learn.ridge_on_positions,
    "random forest": learn.random_forest,
}
CHOICES: dict[str, Callable[[Bench, int, int], Index]] = {
    "model, random networks": random_networks,
    "model, chosen networks": informative_networks,
}


def run(
    bench: Bench, cache: Cache, counts: Sequence[int], seeds: int, few: int, columns: Sequence[str]
) -> None:
    """Fill the cache, seed after seed; random forests and 900 networks have ``few`` seeds."""
    for seed in range(seeds):
        for count in counts:
            if count + 50 > len(bench.rows) or (count >= SLOW_COUNT and seed >= few):
                continue
            picks = {name: choose(bench, count, seed) for name, choose in CHOICES.items()}
            for column in columns:
                for name in CHOICES:
                    _model(bench, cache, column, name, picks[name], seed)
                for name in PLAIN:
                    if name != "random forest" or (seed < few and learn.has_sklearn()):
                        _plain(bench, cache, column, name, picks["model, random networks"], seed)
        click.echo(f"{bench.name}: {seed + 1} of {seeds} seeds done", err=True)


def _model(bench: Bench, cache: Cache, column: str, name: str, train: Index, seed: int) -> None:
    key = f"{bench.name}/{column}/{len(train)}/{name}/{seed}"
    if key not in cache.rows:
        test, ms = tested(bench, train, seed), bench.ms[column]
        cache.add(key, scores(learn.gaussian(bench, train, test, ms), ms[test]))


def _plain(bench: Bench, cache: Cache, column: str, name: str, train: Index, seed: int) -> None:
    key = f"{bench.name}/{column}/{len(train)}/{name}/{seed}"
    if key not in cache.rows:
        test, ms = tested(bench, train, seed), bench.ms[column]
        cache.add(key, without_interval(PLAIN[name](bench, train, test, ms), ms[test]))


def tested(bench: Bench, train: Index, seed: int) -> Index:
    rest = np.setdiff1d(bench.rows, train)
    return np.random.default_rng([seed, 1]).permutation(rest)[:TEST_NETWORKS]


def seeds_of(cache: Cache, bench: str, column: str, count: int, name: str) -> list[list[float]]:
    """Return the figures of every finished seed."""
    begin = f"{bench}/{column}/{count}/{name}/"
    return [values for key, values in cache.rows.items() if key.startswith(begin)]


def sections(bench: Bench, cache: Cache, columns: Sequence[str]) -> list[tuple[str, str]]:
    """Return a table of the median and the worst column, and one of all columns."""
    names = [*CHOICES, *PLAIN]
    short: list[list[str]] = []
    long: list[list[str]] = []
    for count in COUNTS:
        for name in names:
            seed_rows = {
                column: seeds_of(cache, bench.name, column, count, name) for column in columns
            }
            run = min(map(len, seed_rows.values()))
            if run == 0:
                continue
            rows = {
                column: np.mean(values, axis=0).tolist() for column, values in seed_rows.items()
            }
            every = np.array(list(rows.values()))
            worst = min(rows, key=lambda column: rows[column][1])
            head = [str(count), name, str(run)]
            medians = figures(np.median(every, axis=0).tolist())
            spearman = f"{every[:, 3].mean():.4f}"
            short.append([*head, *medians, spearman, worst, *figures(rows[worst])[:4]])
            long += [[*head, column, *figures(row)] for column, row in rows.items()]
    titles = ["K", "method", "seeds", *FIGURES, "mean Spearman", "worst column", *FIGURES[:4]]
    return [
        (f"{bench.name}: median of {len(columns)} columns, and the worst", table(titles, short)),
        (f"{bench.name}: each column", table(["K", "method", "seeds", "column", *FIGURES], long)),
    ]
