"""102 real networks on phones (qed-usc/mobile-ml-benchmark): predict a family from the others.

A few networks of other families are measured on the device, and every network of the held-out
family is predicted. Definitions of the networks are from pytorchcv, whose authors' TensorFlow
versions were measured; the operators are from our own analysis at 224 x 224, and their MACs agree
with the published ones within 4 % (all but five within 2 %).
"""

from __future__ import annotations

import csv
import re
from collections.abc import Callable, Sequence
from importlib.util import find_spec
from pathlib import Path

import click
import msgspec
import numpy as np
import torch
from numpy.typing import NDArray

from hwnas.latency_models.model import Predictions
from tools.evaluate.latency_published.operators import (
    AMOUNTS,
    GROUPS,
    Operator,
    matrix,
    operators_of,
)
from tools.lib.latency import learn
from tools.lib.latency.bench import Bench, Floats, Index, Items
from tools.lib.latency.choice import informative_networks, random_networks
from tools.lib.latency.score import FIGURES, Cache, figures, scores, without_interval
from tools.lib.results import table

Families = NDArray[np.str_]
MAIN_COLUMN = "pixel4|1large|float"
COUNTS = (10, 20, 40)
SIZE_PX = 224
POOL_SHARE = 0.75
"""Share of the other families' networks, drawn by the seed, that may be measured."""

FAMILIES = {
    "mobilenet": r"(fd)?mobilenetb?_w",
    "mobilenetv2": r"mobilenetv2",
    "mobilenetv3": r"mobilenetv3",
    "resnet": r"(pre|se|sepre)?resn|bagnet|diracnet",
    "regnet": r"regnet",
    "searched MBConv": r"mnasnet|proxylessnas|spnasnet|fbnet|efficientnet",
    "squeezenet": r"squeeze",
    "densenet": r"densenet|peleenet|hardnet|vovnet",
    "other": r"bninception|dla|ghostnet|hrnet",
}
"""Families by origin; a network belongs to the first family whose pattern matches its name."""


def family_of(name: str) -> str:
    return next(family for family, pattern in FAMILIES.items() if re.match(pattern, name))


def phones(data: Path, work: Path) -> tuple[Bench, list[str]]:
    """Return the bench, its columns in ms, and the networks' names."""
    rows = list(csv.DictReader((data / "mobile_tflite_cnn_e2e.csv").read_text().splitlines()))
    names = [row["model"] for row in rows]
    ms = {
        column.removesuffix("|mean"): np.array([float(row[column]) / 1000 for row in rows])
        for column in rows[0]
        if column.endswith("|mean")
    }
    operators, counts = matrix(_analysed(names, work))
    amounts = np.array([operator.amounts for operator in operators])
    items = Items(
        "",
        counts,
        np.column_stack([amounts, [float(operator.kind == "fixed") for operator in operators]]),
        np.array([operator.place for operator in operators]),
        np.array(GROUPS),
    )
    total = counts @ amounts
    macs = total[:, [n for n, name in enumerate(AMOUNTS) if name.endswith("MACs")]].sum(axis=1)
    bench = Bench("cnn", (items,), macs, total, total, ms, np.arange(len(names)))
    return bench, names


def _analysed(names: Sequence[str], work: Path) -> list[dict[Operator, int]]:
    """Return the operators of each network; they are stored in ``work``."""
    path = work / "cnn_operators.json"
    stored: dict[str, list[tuple[Operator, int]]] = {}
    if path.exists():
        stored = msgspec.json.decode(path.read_bytes(), type=dict[str, list[tuple[Operator, int]]])
    if not set(names) <= set(stored):
        if find_spec("pytorchcv") is None:
            raise click.ClickException(
                "pytorchcv, which defines the networks, is missing: pip install 'hwnas[evaluation]'"
            )
        from pytorchcv.model_provider import get_model  # pyright: ignore

        for name in names:
            with torch.device("meta"):
                module = get_model(name)  # pyright: ignore[reportUnknownVariableType]
            stored[name] = list(operators_of(module, SIZE_PX).items())  # pyright: ignore
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(msgspec.json.encode(stored))
    return [dict(stored[name]) for name in names]


def _model(bench: Bench, train: Index, test: Index, ms: Floats) -> Predictions:
    return learn.gaussian(_without_unused(bench, train, test), train, test, ms)


def _without_unused(bench: Bench, train: Index, test: Index) -> Bench:
    """Return the bench without the items that none of these networks has."""
    items = bench.items[0]
    used = np.flatnonzero(items.counts[np.concatenate([train, test])].any(axis=0))
    used_items = items._replace(
        counts=items.counts[:, used],
        amounts=items.amounts[used],
        coordinates=items.coordinates[used],
    )
    return bench._replace(items=(used_items,))


CHOICES: dict[str, Callable[[Bench, int, int], Index]] = {
    "model, random networks": random_networks,
    "model, chosen networks": informative_networks,
}
PLAIN = {
    "line on MACs": learn.line_on_macs,
    "ridge on amounts": learn.ridge_on_counts,
    "random forest": learn.random_forest,
}


def run(bench: Bench, names: Sequence[str], cache: Cache, seeds: int, few: int) -> None:
    """Fill the cache; columns except the main one have ``few`` seeds and the lowest count only."""
    family = np.array([family_of(name) for name in names])
    for seed in range(seeds):
        for count in COUNTS:
            picks = _TrainingNetworks(bench, family, count, seed)
            columns = bench.ms if seed < few and count == COUNTS[0] else [MAIN_COLUMN]
            for column in columns:
                _run(bench, picks, cache, column)
        click.echo(f"cnn: {seed + 1} of {seeds} seeds done", err=True)


class _TrainingNetworks:
    """The measured networks of the other families, for each held-out family."""

    def __init__(self, bench: Bench, family: Families, count: int, seed: int) -> None:
        self.bench, self.family, self.count, self.seed = bench, family, count, seed
        self.choices: dict[tuple[str, str], Index] = {}

    def of(self, held_out: str, name: str) -> Index:
        choice = name if name in CHOICES else "model, random networks"
        if (held_out, choice) not in self.choices:
            others = np.random.default_rng(self.seed).permutation(
                np.flatnonzero(self.family != held_out)
            )
            pool = self.bench._replace(rows=others[: round(POOL_SHARE * len(others))])
            self.choices[held_out, choice] = CHOICES[choice](pool, self.count, self.seed)
        return self.choices[held_out, choice]


def _run(bench: Bench, picks: _TrainingNetworks, cache: Cache, column: str) -> None:
    ms = bench.ms[column]
    for name in [*CHOICES, *PLAIN]:
        key = f"{column}/{picks.count}/{name}/{picks.seed}"
        if key in cache.rows or (name == "random forest" and not learn.has_sklearn()):
            continue
        mean, std = np.empty(len(ms)), np.zeros(len(ms))
        for held_out in FAMILIES:
            test, train = np.flatnonzero(picks.family == held_out), picks.of(held_out, name)
            if name in PLAIN:
                mean[test] = PLAIN[name](bench, train, test, ms)
            else:
                mean[test], std[test] = _model(bench, train, test, ms)
        row = scores(Predictions(mean, std), ms) if std.any() else without_interval(mean, ms)
        cache.add(key, row)


def sections(bench: Bench, cache: Cache) -> list[tuple[str, str]]:
    """Return the table of the main column and one of all columns."""
    methods = [*CHOICES, *PLAIN]
    rows_by_key: dict[tuple[str, int, str], list[list[float]]] = {}
    for key, row in cache.rows.items():
        column, count, name, _ = key.rsplit("/", 3)
        rows_by_key.setdefault((column, int(count), name), []).append(row)
    main = [
        [str(count), name, str(len(rows)), *figures(np.mean(rows, axis=0).tolist())]
        for count in COUNTS
        for name in methods
        if (rows := rows_by_key.get((MAIN_COLUMN, count, name)))
    ]
    every = [
        [column.replace("|", " "), name, str(len(rows)), *figures(np.mean(rows, axis=0).tolist())]
        for column in bench.ms
        for name in methods
        if (rows := rows_by_key.get((column, COUNTS[0], name)))
    ]
    titles = ["method", "seeds", *FIGURES]
    return [
        (
            f"{MAIN_COLUMN.replace('|', ' ')}: K networks of other families",
            table(["K", *titles], main),
        ),
        (f"Every column, K = {COUNTS[0]}", table(["column", *titles], every)),
    ]
