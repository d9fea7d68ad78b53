"""From probabilities to architectures that fill the budget: the window knapsack.

The argmax of a short search ends at 0.7 to 1.3 times the budget. Here the most probable
architecture whose latency lies in a window below the budget is found exactly (up to the size of
a latency cell) by dynamic programming over decisions and latency cells.
"""

from __future__ import annotations

import math
from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

from hwnas.errors import BudgetError
from hwnas.latency_models.cost import CostTable

CELLS, CELLS_EACH = 4000, 100
"""Latency cells up to the budget, at least so many for each decision: rounding costs less than
decisions / cells of the budget (1 %)."""


def window_knapsack(
    scores: list[list[float]], costs: CostTable, low_ms: float, high_ms: float
) -> tuple[int, ...]:
    """Return the choices of greatest total score with a latency in ``[low_ms, high_ms]``.

    ``scores[P][K]`` is a log-probability (or any additive score). Costs are rounded up to cells,
    so the budget is never passed. If no network lies in the window, the best of the nearest ones
    below it is returned. Raises `BudgetError` if even the fastest network is over ``high_ms``.
    """
    free_ms = high_ms - costs.fixed_ms
    if costs.smallest_ms > high_ms:
        raise BudgetError(
            f"the fastest network takes {costs.smallest_ms:.4g} ms, over the budget of "
            f"{high_ms:.4g} ms"
        )
    count = max(CELLS, CELLS_EACH * len(costs.mean_ms))
    cell_ms = max(free_ms, 1e-9) / count
    cells = [[_cells(cost_ms, cell_ms) for cost_ms in row] for row in costs.mean_ms]
    best, picks = _forward(scores, cells, count)
    for end in _ends(best, low_ms - costs.fixed_ms, cell_ms):
        choices = _backward(end, cells, picks)
        if costs.network_ms(choices) >= low_ms:
            return choices
    reached = np.flatnonzero(np.isfinite(best))
    if not len(reached):  # only by the rounding: the fastest network just fits
        return tuple(row.index(min(row)) for row in costs.mean_ms)
    return _backward(int(reached.max()), cells, picks)


def _cells(cost_ms: float, cell_ms: float) -> int:
    """Round up, forgiving the last bits of a cost that is a whole number of cells."""
    return math.ceil(cost_ms / cell_ms - 1e-9)


def _forward(
    scores: list[list[float]], cells: list[list[int]], count: int
) -> tuple[NDArray[np.float64], list[NDArray[np.int16]]]:
    """Fill ``best[c]``, the greatest score that uses exactly ``c`` of ``count`` cells, decision by
    decision."""
    best = np.full(count + 1, -np.inf)
    best[0] = 0.0
    picks: list[NDArray[np.int16]] = []
    for row_scores, row_cells in zip(scores, cells, strict=True):
        options = np.full((len(row_cells), count + 1), -np.inf)
        for candidate, (score, used) in enumerate(zip(row_scores, row_cells, strict=True)):
            if used <= count:
                options[candidate, used:] = best[: count + 1 - used] + score
        picks.append(options.argmax(0).astype(np.int16))
        best = options.max(0)
    return best, picks


def _ends(best: NDArray[np.float64], low_ms: float, cell_ms: float) -> Iterator[int]:
    """Yield the reached cells of the window, best score first (of equals the fullest)."""
    first = max(0, math.floor(low_ms / cell_ms))
    reached = [cell for cell in range(first, len(best)) if np.isfinite(best[cell])]
    yield from sorted(reached, key=lambda cell: (-best[cell], -cell))


def _backward(end: int, cells: list[list[int]], picks: list[NDArray[np.int16]]) -> tuple[int, ...]:
    choices: list[int] = []
    for row_cells, row_picks in zip(reversed(cells), reversed(picks), strict=True):
        choice = int(row_picks[end])
        choices.append(choice)
        end -= row_cells[choice]
    return tuple(reversed(choices))


def window_samples(
    scores: list[list[float]],
    costs: CostTable,
    low_ms: float,
    high_ms: float,
    count: int,
    rng: np.random.Generator,
) -> list[tuple[int, ...]]:
    """Return up to ``count`` distinct choices of the window: the best, then perturbed ones.

    Gumbel noise on the scores before maximising draws from (an approximation of) the
    distribution that the scores define, restricted to the window (perturb and MAP:
    Papandreou and Yuille, ICCV 2011).
    """
    found = [window_knapsack(scores, costs, low_ms, high_ms)]
    for _ in range(20 * count):
        if len(found) >= count:
            break
        noisy = [[score + rng.gumbel() for score in row] for row in scores]
        choices = window_knapsack(noisy, costs, low_ms, high_ms)
        if choices not in found:
            found.append(choices)
    return found
