"""The window knapsack: the most probable architecture that fills the latency budget.

The argmax of a short search takes 0.7 to 1.3 times the budget. The knapsack finds the most probable
architecture whose latency lies in a window below the budget: a multiple-choice knapsack (Kellerer,
Pferschy and Pisinger, Knapsack Problems, 2004, chapter 11). Dynamic programming over latency cells
gives upper bounds that allow for the rounding of costs to cells, and a best-first search with these
bounds and the true costs gives the optimum.
"""

from __future__ import annotations

import heapq
import math
from collections.abc import Iterator, Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from hwnas.errors import BudgetError
from hwnas.latency_models.cost import CostTable

MIN_CELLS, CELLS_PER_DECISION = 2000, 10
"""Latency cells up to the budget, in all and per decision: more give closer bounds."""
MAX_NODES, MAX_NODES_PER_DECISION = 4000, 20
"""Partial networks that are extended, in all and per decision, before the optimum of the rounded
costs is taken instead. Only budgets that almost no network meets, or scores that almost follow the
costs, take as many."""
TOLERANCE = 1e-6
"""Cells by which the sum of costs may be wrong in floating-point arithmetic."""
SCORE_RANGE = 2.0**50
"""Scores are scaled to whole numbers whose sum is at most this."""
SCORE_TOLERANCE = 4096.0
"""Error of a bound by price in floating-point arithmetic."""

Array = NDArray[np.float64]


class CountLimit(NamedTuple):
    """An upper limit on a count in the network, e.g. on its skips."""

    counts: list[list[int]]
    """Amount that each candidate adds to the count, ``[P][K]``."""
    max_count: int


def window_knapsack(
    scores: Sequence[Sequence[float]],
    costs: CostTable,
    low_ms: float,
    high_ms: float,
    limit: CountLimit | None = None,
) -> tuple[int, ...]:
    """Return the choices of greatest total score with a latency in ``[low_ms, high_ms]``.

    ``scores[P][K]`` is a log-probability (or any additive score); -inf excludes a candidate. The
    budget is never exceeded. The result is the optimum; if the proof takes more than `MAX_NODES`
    steps, it is the optimum for costs rounded to cells. If no network lies in the window, the
    slowest below it is returned. Raises `BudgetError` if even the fastest network exceeds
    ``high_ms``, or if every network within it exceeds ``limit`` or has an excluded candidate.
    """
    if costs.smallest_ms > high_ms:
        raise BudgetError(
            f"the fastest network takes {costs.smallest_ms:.4g} ms, over the budget of "
            f"{high_ms:.4g} ms"
        )
    counts = limit or CountLimit([[0] * len(row) for row in costs.mean_ms], 0)
    choices = _Problem(scores, costs, low_ms, high_ms, counts).solve()
    if choices is None:
        as_slow = [
            [cost_ms if score > -math.inf else score for score, cost_ms in zip(*rows, strict=True)]
            for rows in zip(scores, costs.mean_ms, strict=True)
        ]
        choices = _Problem(as_slow, costs, -math.inf, high_ms, counts).solve()
    if choices is not None:
        return choices
    what = "only allowed choices" if limit is None else f"at most {limit.max_count} such choices"
    raise BudgetError(f"no network within {high_ms:.4g} ms has {what}")


class _Row(NamedTuple):
    """The candidates of a decision."""

    place: int
    """Number of the decision."""
    score: Array
    """Score of each candidate: whole numbers, so that sums are exact and equal scores stay
    equal."""
    cost: Array
    """Cost of each candidate in cells."""
    cells: NDArray[np.int64]
    """Costs rounded to the nearest cell."""
    counts: NDArray[np.int64]


class _Problem:
    """Decisions, ordered so that those on which costs have little effect come first, and upper
    bounds on the score of the remaining decisions.

    There are two bounds. The bound by cells is tight for few decisions. The bound by a price per
    cell, ``sum of max_k (score_k - price * cost_k) + price * (cells left)``, is tight for many
    decisions, where the rounding errors of the costs add up.
    """

    def __init__(
        self,
        scores: Sequence[Sequence[float]],
        costs: CostTable,
        low_ms: float,
        high_ms: float,
        limit: CountLimit,
    ) -> None:
        self.costs, self.low_ms, self.high_ms = costs, low_ms, high_ms
        self.max_count = limit.max_count
        self.cells = max(MIN_CELLS, CELLS_PER_DECISION * len(costs.mean_ms))
        cell_ms = max(high_ms - costs.fixed_ms, 1e-9) / self.cells
        self.low = (low_ms - costs.fixed_ms) / cell_ms
        rows = _rows(scores, costs, cell_ms, limit)
        self.price = _price(rows, self.low, self.cells)
        self.priced_end = self.cells if self.price > 0 else max(0.0, self.low)
        self.rows = sorted(rows, key=self._loss, reverse=True)
        self.priced = _sums_to_end([self._priced(row).max() for row in self.rows])
        rests = [(row.cost - row.cells)[row.cost <= self.cells + 1] for row in self.rows]
        self.least_rest = _sums_to_end([rest.min() for rest in rests])
        most_rest = _sums_to_end([rest.max() for rest in rests])
        length = int(self.cells - self.least_rest.min()) + 2
        self.best = self._tables(length)
        # cells between the fullest and the emptiest rest of a network that may end in the window
        spans = np.minimum(self.cells - self.low + most_rest - self.least_rest + 2, length)
        self.bounds = [
            _window_max(table, int(span)) for table, span in zip(self.best, spans, strict=True)
        ]

    def solve(self) -> tuple[int, ...] | None:
        """Return the best choices, or ``None`` if no network lies in the window."""
        # ties go to the partial network that is longer, then to the slower one
        heap: list[tuple[float, int, float, tuple[int, ...], float, int]] = [(0, 0, 0, (), 0, 0)]
        for _ in range(MAX_NODES + MAX_NODES_PER_DECISION * len(self.rows)):
            if not heap:
                return None
            _, _, minus_cost, picks, score, used = heapq.heappop(heap)
            place = len(picks)
            if place == len(self.rows):
                if self._in_window(choices := self._choices(picks)):
                    return choices
                continue
            row = self.rows[place]
            cost, scores, counts = row.cost - minus_cost, row.score + score, row.counts + used
            bounds = scores + self._bound(place + 1, cost, counts)
            for pick in np.flatnonzero(bounds > -np.inf).tolist():
                item = (*picks, pick), float(scores[pick]), int(counts[pick])
                heapq.heappush(heap, (-float(bounds[pick]), -place - 1, -float(cost[pick]), *item))
        return self._rounded()

    def _bound(self, place: int, cost: Array, counts: NDArray[np.int64]) -> Array:
        """Return the greatest score of the rows from ``place`` on, for the cost and the count of
        those before; -inf where no network ends in the window."""
        most = np.floor(self.cells - cost - self.least_rest[place] + TOLERANCE)
        table = self.bounds[place]
        ends = np.clip(most, 0, table.shape[1] - 1).astype(np.int64)
        bound = table[np.maximum(self.max_count - counts, 0), ends]
        priced = self.priced[place] + self.price * (self.priced_end - cost) + SCORE_TOLERANCE
        fits = (most >= 0) & (counts <= self.max_count)
        return np.where(fits, np.minimum(bound, priced), -np.inf)

    def _tables(self, length: int) -> list[Array]:
        """Return ``best[p][u, c]``, the greatest score of the rows from ``p`` on with a count of at
        most ``u`` and costs that are rounded to ``c`` cells in all."""
        table = np.full((self.max_count + 1, length), -np.inf)
        table[:, 0] = 0
        tables = [table]
        for row in reversed(self.rows):
            longer = np.full_like(table, -np.inf)
            for score, cell, count in zip(row.score, row.cells, row.counts, strict=True):
                if cell < length and count <= self.max_count:
                    rest = table[: self.max_count + 1 - count, : length - cell] + score
                    part = longer[count:, cell:]
                    np.maximum(part, rest, out=part)
            table = longer
            tables.append(table)
        return tables[::-1]

    def _rounded(self) -> tuple[int, ...] | None:
        """Return the first network of the window among the best of each latency cell."""
        scores = self.best[0][-1]
        margin = math.ceil(2 * math.sqrt(len(self.rows)))  # the sum of the roundings
        scores[: max(0, int(max(self.low, 0)) - margin)] = -np.inf
        scores[self.cells + margin :] = -np.inf
        for end in np.argsort(-scores, kind="stable").tolist():
            if np.isfinite(scores[end]):
                choices = self._choices(tuple(self._backward(end)))
                if self._in_window(choices):
                    return choices
        return None

    def _backward(self, end: int) -> Iterator[int]:
        """Yield the picks of the rows behind the best score that ends in a cell."""
        left = self.max_count
        for place, row in enumerate(self.rows):
            fits = np.flatnonzero((row.cells <= end) & (row.counts <= left))
            after = self.best[place + 1][left - row.counts[fits], end - row.cells[fits]]
            pick = int(fits[(after + row.score[fits]).argmax()])
            yield pick
            end, left = end - int(row.cells[pick]), left - int(row.counts[pick])

    def _choices(self, picks: tuple[int, ...]) -> tuple[int, ...]:
        """Return the picks of the rows in the order of the decisions."""
        choices = {row.place: pick for row, pick in zip(self.rows, picks, strict=True)}
        return tuple(choices[place] for place in range(len(choices)))

    def _in_window(self, choices: tuple[int, ...]) -> bool:
        return self.low_ms <= self.costs.network_ms(choices) <= self.high_ms

    def _priced(self, row: _Row) -> Array:
        return row.score - self.price * row.cost

    def _loss(self, row: _Row) -> float:
        """Return the loss of score of the second-best candidate of a decision under the price."""
        *_, second, best = sorted([-math.inf, -math.inf, *self._priced(row).tolist()])
        return best - second if best > -math.inf else math.inf


def _rows(
    scores: Sequence[Sequence[float]], costs: CostTable, cell_ms: float, limit: CountLimit
) -> list[_Row]:
    largest = sum(max((abs(x) for x in row if math.isfinite(x)), default=0.0) for row in scores)
    scale = SCORE_RANGE / largest if largest > 0 else 1.0
    rows: list[_Row] = []
    parts = zip(scores, costs.mean_ms, limit.counts, strict=True)
    for place, (row_scores, row_ms, counts) in enumerate(parts):
        cost = np.array(row_ms) / cell_ms
        cells = np.rint(np.minimum(cost, 1e9)).astype(np.int64)
        score = np.rint(scale * np.array(row_scores, np.float64))
        rows.append(_Row(place, score, cost, cells, np.array(counts, np.int64)))
    return rows


def _price(rows: Sequence[_Row], low: float, high: float) -> float:
    """Return the price per cell at which the best network of all costs as much as the window
    allows.

    0 if the best network without a price fits; negative if it would be too fast.
    """
    if not rows:
        return 0.0
    width = max(len(row.score) for row in rows)
    score, cost = np.full((len(rows), width), -np.inf), np.zeros((len(rows), width))
    for place, row in enumerate(rows):
        score[place, : len(row.score)], cost[place, : len(row.cost)] = row.score, row.cost
    places = np.arange(len(rows))

    def total(price: float) -> float:
        return float(cost[places, (score - price * cost).argmax(1)].sum())

    if low <= (free := total(0.0)) <= high:
        return 0.0
    sign, goal = (1, high) if free > high else (-1, low)
    # the price of one cell above which every decision takes its cheapest or slowest candidate
    small, large = 0.0, 2 * SCORE_RANGE
    for _ in range(100):
        middle = (small + large) / 2
        if sign * (total(sign * middle) - goal) > 0:
            small = middle
        else:
            large = middle
    return sign * large


def _sums_to_end(values: Sequence[float]) -> Array:
    """Return the sums of ``values [P]`` from each index to the end, ``[P + 1]``."""
    return np.append(np.cumsum(np.array(values, np.float64)[::-1])[::-1], 0.0)


def _window_max(table: Array, width: int) -> Array:
    """Return the maximum over the last ``width`` cells up to each cell of ``table [U, C]``."""
    span, width = 1, max(1, width)
    while span < width:
        step = min(span, width - span)
        table = table.copy() if span == 1 else table
        table[:, step:] = np.maximum(table[:, step:], table[:, :-step])
        span += step
    return table


def window_samples(
    scores: Sequence[Sequence[float]],
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
