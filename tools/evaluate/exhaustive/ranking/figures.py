"""Figures of a ranking: correlations with the table, their ceiling, regrets and biases."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from scipy import stats  # pyright: ignore[reportMissingTypeStubs]

from tools.evaluate.exhaustive.problem import space
from tools.evaluate.exhaustive.regret import tau
from tools.evaluate.exhaustive.searches import PERCENTILES
from tools.evaluate.exhaustive.table import Floats, Table

LOW, TOP = 0.89, 3
"""Lowest latency of a choice as a share of the budget, and the number of networks from which the
best is taken."""


class Ranking(NamedTuple):
    """Figures of a ranking of all networks."""

    tau: float
    """Kendall's tau-b with the mean accuracy of the seeds of the table."""
    corrected: float
    """`corrected_tau`."""
    spearman: float
    near: float
    """Kendall's tau-b within 0.89 to 1 of a budget, mean over budgets and runtimes."""
    first: float
    """Regret of the first network in those windows, in points of accuracy."""
    best: float
    """Regret of the best of the first `TOP`."""


class Reliability(NamedTuple):
    """How far the noise of the table limits every correlation with it."""

    share: float
    """Share of the networks' differences in the variance of their means."""
    seed_tau: float
    """Mean Kendall's tau-b of a single training with the mean of the others."""
    ceiling: float
    """Kendall's tau-b that the true accuracies would have with the table."""


def ranking(table: Table, scores: Sequence[float]) -> Ranking:
    score, truth = np.array(scores), table.accuracy
    near, first, best = zip(*(_at(table, score, rows) for rows in windows(table)), strict=True)
    spearman = float(stats.spearmanr(score, truth)[0])  # pyright: ignore
    plain = tau(score, truth)
    return Ranking(
        plain,
        corrected_tau(plain, reliability(table).share),
        spearman,
        float(np.mean(near)),
        float(np.mean(first)),
        float(np.mean(best)),
    )


def random_regret(table: Table) -> float:
    """Return the mean regret of a random network of a window, over all windows."""
    regrets = [_best(table, rows) - table.accuracy[rows].mean() for rows in windows(table)]
    return float(np.mean(regrets))


def windows(table: Table) -> list[np.ndarray]:
    """Return the networks within each budget of each runtime that use most of it."""
    budgets = [
        (ms, table.budget_ms(runtime, percentile))
        for runtime, ms in table.latency_ms.items()
        for percentile in PERCENTILES
    ]
    return [np.flatnonzero((ms <= budget) & (ms >= LOW * budget)) for ms, budget in budgets]


def reliability(table: Table) -> Reliability:
    seeds = table.accuracies.shape[1]
    share = table.network_std**2 / (table.network_std**2 + table.seed_std**2 / seeds)
    others = [
        tau(table.accuracies[:, seed], np.delete(table.accuracies, seed, 1).mean(1))
        for seed in range(seeds)
    ]
    return Reliability(share, float(np.mean(others)), _as_tau(math.sqrt(share)))


def corrected_tau(plain: float, share: float) -> float:
    """Return Kendall's tau with the accuracies without the noise of the seeds.

    For normal variables tau is ``2 / pi * asin(r)``, and noise takes ``sqrt(share)`` off ``r``
    (Spearman's correction for attenuation).
    """
    return _as_tau(math.sin(math.pi / 2 * plain) / math.sqrt(share))


def biases(table: Table, scores: Sequence[float]) -> dict[str, float]:
    """Return how much higher than the table a ranking rates each candidate, relative to the first
    candidate of its decision, by least squares, in standard deviations of the networks."""
    score, truth = np.array(scores), table.accuracy
    difference = _standard(score) - _standard(truth)
    columns, names = [np.ones(len(truth))], ["all"]
    for number, decision in enumerate(space().decisions):
        for candidate, name in enumerate(decision.candidates[1:], 1):
            columns.append((table.choices[:, number] == candidate).astype(float))
            names.append(f"{decision.name}: {name}")
    weights = np.linalg.lstsq(np.array(columns).T, difference, rcond=None)[0]
    return dict(zip(names[1:], map(float, weights[1:]), strict=True))


def _at(table: Table, score: Floats, rows: np.ndarray) -> tuple[float, float, float]:
    """Return tau, and the regrets of the first network and of the best of the first ones."""
    truth, order = table.accuracy, rows[np.argsort(-score[rows], kind="stable")]
    best = _best(table, rows)
    regrets = float(best - truth[order[0]]), float(best - truth[order[:TOP]].max())
    return tau(score[rows], truth[rows]), *regrets


def _best(table: Table, rows: np.ndarray) -> float:
    """Return the accuracy of the best network that is not slower than the slowest of ``rows``."""
    return float(table.accuracy[rows].max())


def _standard(values: Floats) -> Floats:
    return (values - values.mean()) / values.std()


def _as_tau(correlation: float) -> float:
    return 2 / math.pi * math.asin(max(-1.0, min(1.0, correlation)))
