"""Ten cells of a device by the rules of HELP, beside its published figures.

Lee et al., "HELP: Hardware-Adaptive Efficient Latency Prediction for NAS via Meta-Learning",
NeurIPS 2021, arXiv:2106.08630: a device is predicted from its latencies of ten cells and from 900
cells of each of other devices, and scored by Spearman's correlation. Its queries leave out a tenth
of the cells at each end of the latencies. The six devices of its table are not among the columns
that we have, so that its figures and ours are of different devices.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, cast

import click
import numpy as np
from scipy import stats

from tools.evaluate.latency_published.columns import CHOICES
from tools.evaluate.latency_published.transfer import CLASSES, class_of
from tools.lib.latency import learn
from tools.lib.latency.bench import Bench, Floats, Index
from tools.lib.latency.score import Cache
from tools.lib.results import table

CELLS = 10
END = 0.1
"""Share of the cells that HELP leaves out at each end."""
OWN_CELLS = "HELP's ten cells"
PUBLISHED: Mapping[str, Mapping[str, float]] = {
    "GPU": {"Titan RTX, batch 256": 0.987},
    "Xeon": {"Xeon Gold 6226": 0.989},
    "phone": {"Pixel 2": 0.802},
    "other": {"Raspberry Pi 4": 0.890, "Eyeriss (a simulator)": 0.940, "FPGA (a model)": 0.985},
}
"""Spearman of HELP on its test devices, table 3 of the paper, by class of device."""


def run(bench: Bench, data: Path, cache: Cache, seeds: int) -> None:
    """Fill the cache: Spearman over all other cells, and without both ends."""
    file = np.load(data / "help_nb201.npz", allow_pickle=False)
    own = file["hw_embedding_index"].astype(int)
    for seed in range(seeds):
        picks: dict[str, Index] = {
            **{name: choose(bench, CELLS, seed) for name, choose in CHOICES.items()},
            **({OWN_CELLS: own} if seed == 0 else {}),
        }
        for column, ms in bench.ms.items():
            for name, train in picks.items():
                key = f"ten/{column}/{name}/{seed}"
                if key not in cache.rows:
                    cache.add(key, _ranked(bench, train, ms))
        click.echo(f"{seed + 1} of {seeds} seeds done", err=True)


def _ranked(bench: Bench, train: Index, ms: Floats) -> list[float]:
    test = np.setdiff1d(bench.rows, train)
    predicted_ms, measured_ms = learn.gaussian(bench, train, test, ms).mean_ms, ms[test]
    low_ms, high_ms = np.quantile(measured_ms, [END, 1 - END])
    inside = (measured_ms >= low_ms) & (measured_ms <= high_ms)
    return [
        _spearman(predicted_ms, measured_ms),
        _spearman(predicted_ms[inside], measured_ms[inside]),
    ]


def _spearman(left: Floats, right: Floats) -> float:
    rank: Any = cast(Any, stats).spearmanr(left, right)
    return float(rank.statistic)


def section(bench: Bench, cache: Cache) -> tuple[str, str]:
    """Return a table of the classes of devices, and HELP's figures in them."""
    names = [*CHOICES, OWN_CELLS]
    rows: list[list[str]] = []
    for group in (*CLASSES, "all"):
        columns = [each for each in bench.ms if group in (class_of(each), "all")]
        cells = [_mean_cell(cache, columns, name) for name in names]
        published = PUBLISHED.get(group) or _all_published()
        devices = ", ".join(published)
        rows.append(
            [group, str(len(columns)), *cells, f"{np.mean([*published.values()]):.3f}", devices]
        )
    titles = ["columns", "number", *names, "HELP", "its devices"]
    return "Spearman, all cells (without both ends)", table(titles, rows)


def _all_published() -> dict[str, float]:
    return {name: value for group in PUBLISHED.values() for name, value in group.items()}


def _mean_cell(cache: Cache, columns: Sequence[str], name: str) -> str:
    means = [
        np.mean([v for k, v in cache.rows.items() if k.startswith(f"ten/{each}/{name}/")], axis=0)
        for each in columns
    ]
    everywhere, inside = np.mean(means, axis=0)
    return f"{everywhere:.3f} ({inside:.3f})"
