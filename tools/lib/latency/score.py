"""Figures of predictions against measurements, and their cache."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, cast

import msgspec
import numpy as np
from scipy import stats

from hwnas.latency_models.model import Predictions
from tools.lib.latency.bench import Floats

FIGURES = ("±5 %", "±10 %", "RMSPE", "Spearman", "cover 90", "passed", "refused", "passed at 90 %")
"""In percent, except Spearman's rank correlation. The budget is the median latency. ``passed``:
networks over it whose predicted mean is within; ``refused``: networks within it whose mean is over;
``passed at 90 %``: networks over it that pass a check with 90 % certainty."""


def scores(predicted: Predictions, measured_ms: Floats) -> list[float]:
    """Return `FIGURES` of networks that were not fitted."""
    mean = predicted.mean_ms
    errors = np.abs(mean / measured_ms - 1)
    low, high = predicted.interval_ms(0.9)
    over = measured_ms > np.median(measured_ms)
    accepted = mean <= np.median(measured_ms)
    certain = predicted.bound_ms(0.9) <= np.median(measured_ms)
    rank: Any = cast(Any, stats).spearmanr(mean, measured_ms)
    return [
        100 * float((errors <= 0.05).mean()),
        100 * float((errors <= 0.10).mean()),
        100 * float(np.sqrt((errors**2).mean())),
        float(np.nan_to_num(rank.statistic)),
        100 * float(((low <= measured_ms) & (measured_ms <= high)).mean()),
        100 * float((accepted & over).mean()),
        100 * float((~accepted & ~over).mean()),
        100 * float((certain & over).mean()),
    ]


def without_interval(mean_ms: Floats, measured_ms: Floats) -> list[float]:
    """Return `FIGURES` of a method without intervals; NaN where an interval is needed."""
    row = scores(Predictions(mean_ms, np.zeros_like(mean_ms)), measured_ms)
    return [*row[:4], np.nan, *row[5:7], np.nan]


def figures(values: Sequence[float]) -> list[str]:
    """Return `FIGURES` as text: percent with one digit, Spearman with three."""
    return [
        "-" if np.isnan(value) else f"{value:.{3 if name == 'Spearman' else 1}f}"
        for name, value in zip(FIGURES, values, strict=False)
    ]


class Cache:
    """Rows in a file of JSON lines, from which an interrupted run continues."""

    def __init__(self, path: Path) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        self.path, self.rows = path, dict[str, list[float]]()
        if path.exists():
            for line in path.read_bytes().splitlines():
                try:
                    key, values = msgspec.json.decode(line, type=tuple[str, list[float | None]])
                except msgspec.DecodeError:
                    continue  # an interrupted write
                self.rows[key] = [np.nan if value is None else value for value in values]

    def add(self, key: str, values: list[float]) -> list[float]:
        self.rows[key] = values
        with self.path.open("ab") as file:
            file.write(msgspec.json.encode((key, values)) + b"\n")
        return values
