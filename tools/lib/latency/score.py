"""How good predictions are, and tables of it."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from datetime import date
from pathlib import Path
from typing import Any, cast

import msgspec
import numpy as np
from scipy import stats

from hwnas.devices.fingerprint import hardware
from hwnas.latency_models.model import Predictions
from tools.lib.latency.bench import Floats
from tools.lib.results import ROOT

RESULTS = ROOT / "tools" / "evaluate" / "latency_published" / "results"
FIGURES = ("±5 %", "±10 %", "RMSPE", "Spearman", "cover 90", "passed", "refused", "passed at 90 %")
"""Percent, but for Spearman's rank correlation. ``passed``, ``refused``: networks whose mean says
that they keep the median latency as a budget and which do not, and the other way round; ``passed at
90 %``: the same where the check asks for 90 % certainty."""


def scores(predicted: Predictions, measured_ms: Floats) -> list[float]:
    """Return `FIGURES` of networks that were not fitted."""
    mean = predicted.mean_ms
    errors = np.abs(mean / measured_ms - 1)
    low, high = predicted.interval_ms(0.9)
    over = measured_ms > np.median(measured_ms)
    accepted = mean <= np.median(measured_ms)
    sure = predicted.bound_ms(0.9) <= np.median(measured_ms)
    rank: Any = cast(Any, stats).spearmanr(mean, measured_ms)
    return [
        100 * float((errors <= 0.05).mean()),
        100 * float((errors <= 0.10).mean()),
        100 * float(np.sqrt((errors**2).mean())),
        float(np.nan_to_num(rank.statistic)),
        100 * float(((low <= measured_ms) & (measured_ms <= high)).mean()),
        100 * float((accepted & over).mean()),
        100 * float((~accepted & ~over).mean()),
        100 * float((sure & over).mean()),
    ]


def without_interval(mean_ms: Floats, measured_ms: Floats) -> list[float]:
    """Return `FIGURES` of a method that knows no interval; what needs one is not a number."""
    row = scores(Predictions(mean_ms, np.zeros_like(mean_ms)), measured_ms)
    return [*row[:4], np.nan, *row[5:7], np.nan]


def table(titles: Sequence[str], rows: Iterable[Sequence[object]]) -> str:
    """Return a table in Markdown; numbers as `shown`."""
    lines = [f"| {' | '.join(titles)} |", f"|{' --- |' * len(titles)}"]
    lines += [f"| {' | '.join(map(shown, row))} |" for row in rows]
    return "\n".join(lines)


def shown(value: object) -> str:
    if not isinstance(value, float):
        return str(value)
    if np.isnan(value):
        return "-"
    return f"{value:.3f}" if abs(value) <= 1 else f"{value:.1f}"


def figures(values: Sequence[float]) -> list[str]:
    """Return `FIGURES` as text: percent with one digit, Spearman with three."""
    return [
        "-" if np.isnan(value) else f"{value:.{3 if name == 'Spearman' else 1}f}"
        for name, value in zip(FIGURES, values, strict=False)
    ]


def write(part: str, command: str, text: str, sections: Sequence[tuple[str, str]]) -> str:
    """Write ``results/PART.md`` and return what is in it."""
    head = f"# Latency model on published measurements: {part}\n\n`{command}`, {date.today()}, "
    body = "\n\n".join(f"## {title}\n\n{content}" for title, content in sections)
    content = f"{head}{hardware()}.\n\n{text}\n\n{body}\n"
    (RESULTS / f"{part}.md").write_text(content)
    return content


class Cache:
    """Rows that are kept in a file of JSON lines, so that a run goes on where it was cut off."""

    def __init__(self, path: Path) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        self.path, self.rows = path, dict[str, list[float]]()
        if path.exists():
            for line in path.read_bytes().splitlines():
                try:
                    key, values = msgspec.json.decode(line, type=tuple[str, list[float | None]])
                except msgspec.DecodeError:
                    continue  # the line that was being written
                self.rows[key] = [np.nan if value is None else value for value in values]

    def add(self, key: str, values: list[float]) -> list[float]:
        self.rows[key] = values
        with self.path.open("ab") as file:
            file.write(msgspec.json.encode((key, values)) + b"\n")
        return values
