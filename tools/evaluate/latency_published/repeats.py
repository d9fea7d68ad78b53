"""Difference between two measurements of one network on a device: a bound for every prediction.

NAS-Bench-201 has many cells that compute the same (an absent edge makes two nodes interchangeable;
a skip copies the value of a node), each measured separately. For two measurements with independent
noise, a prediction of the true value correlates with one at most as the square root of their
correlation (Spearman, "The proof and measurement of association between two things", The
American Journal of Psychology 15(1), 1904).
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, cast

import numpy as np
from scipy import stats

from tools.evaluate.latency_published.nb201 import EDGES, NONE
from tools.lib.latency.bench import Bench, Floats, Index
from tools.lib.results import table

SKIP = 1
DRAWS = 20
"""Number of draws of a pair from each group of equal cells."""


def equal_cells(operations: Index, rows: Index) -> list[list[int]]:
    """Return the groups of at least two rows whose cells compute the same with the same work."""
    groups: dict[tuple[str, tuple[int, ...]], list[int]] = {}
    for row in rows.tolist():
        chosen = operations[row].tolist()
        work = tuple(np.bincount(chosen, minlength=5)[1:].tolist())
        groups.setdefault((expression(chosen), work), []).append(row)
    return [group for group in groups.values() if len(group) > 1]


def expression(operations: Sequence[int]) -> str:
    """Return the expression that a cell computes of ``x``; sums are sorted, ``0`` is no path."""
    nodes = {0: "x"}
    for node in (1, 2, 3):
        terms = [
            nodes[begin] if operation == SKIP else f"{operation}({nodes[begin]})"
            for (begin, end), operation in zip(EDGES, operations, strict=True)
            if end == node and operation != NONE and nodes[begin] != "0"
        ]
        nodes[node] = f"({'+'.join(sorted(terms))})" if len(terms) > 1 else "".join(terms) or "0"
    return nodes[3]


def measurement_noise(
    groups: Sequence[Sequence[int]], ms: Floats, draws: int = DRAWS
) -> tuple[float, float]:
    """Return Spearman's correlation of two measurements and the relative noise of one."""
    rng = np.random.default_rng(0)
    ranks: list[float] = []
    squares: list[float] = []
    for _ in range(draws):
        pairs = np.array([rng.choice(group, 2, replace=False) for group in groups])
        first, second = ms[pairs[:, 0]], ms[pairs[:, 1]]
        rank: Any = cast(Any, stats).spearmanr(first, second)
        ranks.append(float(rank.statistic))
        squares.append(float(np.mean(np.log(second / first) ** 2)) / 2)
    return float(np.mean(ranks)), float(np.sqrt(np.mean(squares)))


def section(bench: Bench, data: Path) -> tuple[str, str]:
    operations = np.load(data / "help_nb201.npz", allow_pickle=False)["ops"].astype(int)
    groups = equal_cells(operations, bench.rows)
    rows: list[list[str]] = []
    ceilings: list[float] = []
    for name, ms in bench.ms.items():
        rank, deviation = measurement_noise(groups, ms)
        ceilings.append(np.sqrt(rank))
        rows.append([name, f"{rank:.4f}", f"{np.sqrt(rank):.4f}", f"{100 * deviation:.1f}"])
    rows.append(["mean", "", f"{np.mean(ceilings):.4f}", ""])
    cells = sum(map(len, groups))
    titles = ["column", "Spearman of two measurements", "at most for a prediction", "noise, %"]
    return f"{len(groups)} groups of equal cells, {cells} cells", table(titles, rows)
