"""The window knapsack: the most probable architecture that fills the latency budget.

The argmax of a short search takes 0.7 to 1.3 times the budget. The knapsack finds the most probable
architecture whose latency lies in a window below the budget, exactly up to the size of a latency
cell, by dynamic programming over decisions and latency cells.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from hwnas.errors import BudgetError
from hwnas.latency_models.cost import CostTable

MIN_CELLS, CELLS_PER_DECISION = 4000, 100
"""Latency cells up to the budget, in all and per decision: rounding loses less than the share
decisions / cells of the budget (1 %)."""


class CountLimit(NamedTuple):
    """An upper limit on a count in the network, e.g. on its skips."""

    counts: list[list[int]]
    """``[P][K]``: what each candidate adds to the count."""
    max_count: int


def window_knapsack(
    scores: list[list[float]],
    costs: CostTable,
    low_ms: float,
    high_ms: float,
    limit: CountLimit | None = None,
) -> tuple[int, ...]:
    """Return the choices of greatest total score with a latency in ``[low_ms, high_ms]``.

    ``scores[P][K]`` is a log-probability (or any additive score). Costs are rounded up to cells,
    so the budget is never exceeded. If no network lies in the window, the slowest below it is
    returned. Raises `BudgetError` if even the fastest network exceeds ``high_ms``, or if every
    network within it exceeds ``limit``.
    """
    free_ms = high_ms - costs.fixed_ms
    if costs.smallest_ms > high_ms:
        raise BudgetError(
            f"the fastest network takes {costs.smallest_ms:.4g} ms, over the budget of "
            f"{high_ms:.4g} ms"
        )
    count = max(MIN_CELLS, CELLS_PER_DECISION * len(costs.mean_ms))
    cell_ms = max(free_ms, 1e-9) / count
    cells = [[_cells(cost_ms, cell_ms) for cost_ms in row] for row in costs.mean_ms]
    limit = limit or CountLimit([[0] * len(row) for row in cells], 0)
    best, picks = _forward(scores, cells, count, limit)
    peak, used = best.max(0), best.argmax(0)
    for end in _ends(peak, low_ms - costs.fixed_ms, cell_ms):
        choices = _backward(end, int(used[end]), cells, limit, picks)
        if costs.network_ms(choices) >= low_ms:
            return choices
    reached = np.flatnonzero(np.isfinite(peak))
    if len(reached):
        end = int(reached.max())
        return _backward(end, int(used[end]), cells, limit, picks)
    # the fastest network just fits, and only rounding excluded it
    fastest = tuple(row.index(min(row)) for row in costs.mean_ms)
    counts = (row[choice] for row, choice in zip(limit.counts, fastest, strict=True))
    if sum(counts) > limit.max_count:
        raise BudgetError(
            f"no network within {high_ms:.4g} ms has at most {limit.max_count} such choices"
        )
    return fastest


def _cells(cost_ms: float, cell_ms: float) -> int:
    """Round up, with a tolerance for the last bits of a cost that is a whole number of cells."""
    return math.ceil(cost_ms / cell_ms - 1e-9)


def _forward(
    scores: list[list[float]], cells: list[list[int]], count: int, limit: CountLimit
) -> tuple[NDArray[np.float64], list[NDArray[np.int16]]]:
    """Fill ``best[u, c]``, the greatest score with the limited count ``u`` and ``c`` of ``count``
    cells, decision by decision."""
    max_count = limit.max_count
    best = np.full((max_count + 1, count + 1), -np.inf)
    best[0, 0] = 0.0
    picks: list[NDArray[np.int16]] = []
    for row_scores, row_cells, row_counts in zip(scores, cells, limit.counts, strict=True):
        options = np.full((len(row_cells), max_count + 1, count + 1), -np.inf)
        rows = zip(row_scores, row_cells, row_counts, strict=True)
        for candidate, (score, cell, added) in enumerate(rows):
            if cell <= count and added <= max_count:
                before = best[: max_count + 1 - added, : count + 1 - cell]
                options[candidate, added:, cell:] = before + score
        picks.append(options.argmax(0).astype(np.int16))
        best = options.max(0)
    return best, picks


def _ends(best: NDArray[np.float64], low_ms: float, cell_ms: float) -> Iterator[int]:
    """Yield the reached cells of the window, best score first; the fullest wins a tie."""
    first = max(0, math.floor(low_ms / cell_ms))
    reached = [cell for cell in range(first, len(best)) if np.isfinite(best[cell])]
    yield from sorted(reached, key=lambda cell: (-best[cell], -cell))


def _backward(
    end: int, used: int, cells: list[list[int]], limit: CountLimit, picks: list[NDArray[np.int16]]
) -> tuple[int, ...]:
    choices: list[int] = []
    rows = list(zip(cells, limit.counts, picks, strict=True))
    for row_cells, row_counts, row_picks in reversed(rows):
        choice = int(row_picks[used, end])
        choices.append(choice)
        end -= row_cells[choice]
        used -= row_counts[choice]
    return tuple(reversed(choices))


def window_samples(
    scores: list[list[float]],
    costs: CostTable,
    low_ms: float,
    high_ms: float,
    count: int,
    rng: np.random.Generator,
    limit: CountLimit | None = None,
) -> list[tuple[int, ...]]:
    """Return up to ``count`` distinct choices in the window: the best, then perturbed ones.

    Gumbel noise on the scores before maximising draws from (an approximation of) the
    distribution that the scores define, restricted to the window (perturb and MAP:
    Papandreou and Yuille, ICCV 2011).
    """
    samples = [window_knapsack(scores, costs, low_ms, high_ms, limit)]
    for _ in range(20 * count):
        if len(samples) >= count:
            break
        noisy = [[score + rng.gumbel() for score in row] for row in scores]
        choices = window_knapsack(noisy, costs, low_ms, high_ms, limit)
        if choices not in samples:
            samples.append(choices)
    return samples
