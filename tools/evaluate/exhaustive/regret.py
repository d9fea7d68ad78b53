"""What searches lose against the best network of the table within their budget."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy import stats  # pyright: ignore[reportMissingTypeStubs]

from tools.evaluate.exhaustive.searches import Search
from tools.evaluate.exhaustive.table import Floats, Table

TRAINED = 3
"""Networks that a run of ``--effort standard`` trains; the most accurate is delivered."""
DRAWS = 2000
"""Random searches of equal cost that are averaged."""


class Regret(NamedTuple):
    """Regrets of one search in points of test accuracy; NaN if no proposal kept the budget."""

    first: float
    """Regret of the first proposal that keeps the budget."""
    trained: float
    """Regret of the most accurate of the first `TRAINED` that keep it, by a single training of
    each."""
    random: float
    """Mean regret of a random network with 89 to 100 % of the budget."""
    random_trained: float
    """Regret of random search at equal cost: as many single trainings as fit into the time of the
    search."""
    over: int
    """Number of proposals before the first that keeps the budget."""


def regret(table: Table, search: Search, low: float = 0.89) -> Regret:
    """Return the regrets of a search; latencies are those of the table."""
    ms, budget_ms = (
        table.latency_ms[search.runtime],
        table.budget_ms(search.runtime, search.percentile),
    )
    best, truth = table.best(search.runtime, budget_ms), table.accuracy
    once = table.accuracies[:, search.seed % table.accuracies.shape[1]]
    rows = table.place(np.array(search.candidates, np.int64).reshape(-1, table.choices.shape[1]))
    keeping = rows[ms[rows] <= budget_ms]
    window = np.flatnonzero((ms <= budget_ms) & (ms >= low * budget_ms))
    trainings = equal_trainings(table, search)
    return Regret(
        float(best - truth[keeping[0]]) if len(keeping) else np.nan,
        float(best - truth[_best_of(keeping[:TRAINED], once)]) if len(keeping) else np.nan,
        float(best - truth[window].mean()),
        best - _random_search(truth, once, window, trainings, search.seed),
        int((ms[rows] > budget_ms).argmin()) if len(keeping) else len(rows),
    )


def equal_trainings(table: Table, search: Search) -> int:
    """Return how many stand-alone trainings take as long as the search and its `TRAINED`."""
    return TRAINED + round(search.cpu_s / float(table.cpu_s.mean()))


def rank_correlation(
    table: Table, accuracy: Sequence[float], rows: NDArray[np.int64] | None = None
) -> float:
    """Return Kendall's tau-b of a supernet's accuracies and the truth, over all networks or some
    rows of the table."""
    taken = np.arange(len(table.accuracy)) if rows is None else rows
    return tau(np.array(accuracy)[taken], table.accuracy[taken])


def tau(a: Floats, b: Floats) -> float:
    """Return Kendall's tau-b of two rankings."""
    return float(stats.kendalltau(a, b)[0])  # pyright: ignore


def _best_of(rows: NDArray[np.int64], once: Floats) -> int:
    return int(rows[once[rows].argmax()])


def _random_search(
    truth: Floats, once: Floats, window: NDArray[np.int64], trainings: int, seed: int
) -> float:
    """Return the mean accuracy of the most accurate of ``trainings`` random networks."""
    rng = np.random.default_rng(seed)
    count = min(trainings, len(window))
    chosen = [_best_of(rng.choice(window, count, replace=False), once) for _ in range(DRAWS)]
    return float(truth[chosen].mean())
