"""From probabilities to architectures that fill the budget: the window knapsack.

The argmax of a short search ends at 0.7 to 1.3 times the budget. Here the most probable
architecture whose latency lies in a window below the budget is found exactly (up to the size of
a latency cell) by dynamic programming over decisions and latency cells.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from hwnas.errors import BudgetError
from hwnas.latency_models.cost import CostTable

CELLS, CELLS_EACH = 4000, 100
"""Latency cells up to the budget, at least so many for each decision: rounding costs less than
decisions / cells of the budget (1 %)."""


class Limit(NamedTuple):
    """At most so many of something in a network, e.g. of skips."""

    uses: list[list[int]]
    """``[P][K]``: how many an option has of them."""
    most: int


def window_knapsack(
    scores: list[list[float]],
    costs: CostTable,
    low_ms: float,
    high_ms: float,
    limit: Limit | None = None,
) -> tuple[int, ...]:
    """Return the choices of greatest total score with a latency in ``[low_ms, high_ms]``.

    ``scores[P][K]`` is a log-probability (or any additive score). Costs are rounded up to cells,
    so the budget is never passed. If no network lies in the window, the best of the nearest ones
    below it is returned. Raises `BudgetError` if even the fastest network is over ``high_ms``, or
    if all that are not break ``limit``.
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
    limit = limit or Limit([[0] * len(row) for row in cells], 0)
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
    # only by the rounding: the fastest network just fits
    fastest = tuple(row.index(min(row)) for row in costs.mean_ms)
    if sum(row[choice] for row, choice in zip(limit.uses, fastest, strict=True)) > limit.most:
        raise BudgetError(
            f"no network within {high_ms:.4g} ms has at most {limit.most} such choices"
        )
    return fastest


def _cells(cost_ms: float, cell_ms: float) -> int:
    """Round up, forgiving the last bits of a cost that is a whole number of cells."""
    return math.ceil(cost_ms / cell_ms - 1e-9)


def _forward(
    scores: list[list[float]], cells: list[list[int]], count: int, limit: Limit
) -> tuple[NDArray[np.float64], list[NDArray[np.int16]]]:
    """Fill ``best[u, c]``, the greatest score that uses exactly ``u`` of what is limited and ``c``
    of ``count`` cells, decision by decision."""
    most = limit.most
    best = np.full((most + 1, count + 1), -np.inf)
    best[0, 0] = 0.0
    picks: list[NDArray[np.int16]] = []
    for row_scores, row_cells, row_uses in zip(scores, cells, limit.uses, strict=True):
        options = np.full((len(row_cells), most + 1, count + 1), -np.inf)
        rows = zip(row_scores, row_cells, row_uses, strict=True)
        for candidate, (score, cell, uses) in enumerate(rows):
            if cell <= count and uses <= most:
                before = best[: most + 1 - uses, : count + 1 - cell]
                options[candidate, uses:, cell:] = before + score
        picks.append(options.argmax(0).astype(np.int16))
        best = options.max(0)
    return best, picks


def _ends(best: NDArray[np.float64], low_ms: float, cell_ms: float) -> Iterator[int]:
    """Yield the reached cells of the window, best score first (of equals the fullest)."""
    first = max(0, math.floor(low_ms / cell_ms))
    reached = [cell for cell in range(first, len(best)) if np.isfinite(best[cell])]
    yield from sorted(reached, key=lambda cell: (-best[cell], -cell))


def _backward(
    end: int, used: int, cells: list[list[int]], limit: Limit, picks: list[NDArray[np.int16]]
) -> tuple[int, ...]:
    choices: list[int] = []
    rows = list(zip(cells, limit.uses, picks, strict=True))
    for row_cells, row_uses, row_picks in reversed(rows):
        choice = int(row_picks[used, end])
        choices.append(choice)
        end -= row_cells[choice]
        used -= row_uses[choice]
    return tuple(reversed(choices))


def window_samples(
    scores: list[list[float]],
    costs: CostTable,
    low_ms: float,
    high_ms: float,
    count: int,
    rng: np.random.Generator,
    limit: Limit | None = None,
) -> list[tuple[int, ...]]:
    """Return up to ``count`` distinct choices of the window: the best, then perturbed ones.

    Gumbel noise on the scores before maximising draws from (an approximation of) the
    distribution that the scores define, restricted to the window (perturb and MAP:
    Papandreou and Yuille, ICCV 2011).
    """
    found = [window_knapsack(scores, costs, low_ms, high_ms, limit)]
    for _ in range(20 * count):
        if len(found) >= count:
            break
        noisy = [[score + rng.gumbel() for score in row] for row in scores]
        choices = window_knapsack(noisy, costs, low_ms, high_ms, limit)
        if choices not in found:
            found.append(choices)
    return found
