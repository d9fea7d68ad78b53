"""The latency model's numerics on any items, and the plain methods that stand beside it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from importlib.util import find_spec
from typing import Any, NamedTuple, cast

import numpy as np

from hwnas.latency_models.correction import Field, Seen, Terms, fit_correction
from hwnas.latency_models.features import Floats
from hwnas.latency_models.gaussian import factorise, solve
from hwnas.latency_models.model import FLOOR, Predictions
from hwnas.latency_models.prior import BlockPrior, Rows, weigh
from latency_data.bench import Bench, Index, Items


class Found(NamedTuple):
    """Predictions of the model, and how probable the measurements were under it."""

    predicted: Predictions
    evidence: float


def gaussian(
    bench: Bench, train: Index, test: Index, ms: Floats, sources: Sequence[Floats] = ()
) -> Predictions:
    """Predict networks ``test`` from networks ``train``, with other devices' tables ``[B]``.

    ``ms`` are the column's latencies of all networks; those of ``test`` are not looked at. Several
    kinds of items are averaged, by their probability before times the marginal likelihood.
    """
    found = [_with(items, train, test, ms[train], sources) for items in bench.items]
    likely = np.array(
        [one.evidence + np.log(items.prior) for one, items in zip(found, bench.items, strict=True)]
    )
    weights = np.exp(likely - likely.max())
    weights /= weights.sum()
    means = np.array([one.predicted.mean_ms for one in found])
    stds = np.array([one.predicted.std_ms for one in found])
    mean = weights @ means
    return Predictions(mean, np.sqrt(weights @ (stds**2 + (means - mean) ** 2)))


def _with(items: Items, train: Index, test: Index, ms: Floats, sources: Sequence[Floats]) -> Found:
    amounts = np.column_stack([items.amounts, *sources])
    counts = items.counts[train]
    weights = weigh(counts @ amounts, ms)
    cost = np.maximum(amounts @ weights, 1e-9)
    prior = BlockPrior(tuple(weights.tolist()))
    rows = Rows(cost, np.zeros((len(cost), len(cost))))
    field = Field((), rows, amounts, prior, 0.0, (items.coordinates, items.groups))
    error = np.full(len(train), 1e-3)
    together = [0] * len(train)
    seen = Seen(counts, ms, error, np.ones(len(train)), together, together)
    predicted, evidence = predict(field, seen, items.counts[test])
    return Found(predicted, evidence)


def predict(field: Field, seen: Seen, counts: Floats) -> tuple[Predictions, float]:
    """Fit the correction; predict networks ``[M, B]`` without their blocks' joint covariance.

    Also returns the logarithm of the marginal likelihood.
    """
    correction = fit_correction(seen, field)
    terms = Terms(seen, field, correction.overhead_ms)
    grams, residual = terms.grams(), seen.ms - seen.counts @ field.rows.ms
    scaled = counts * field.rows.ms
    spread, total = scaled @ terms.part, scaled.sum(axis=1)
    own_shape = np.array([_quadratic(row, terms.shape) for row in scaled])
    squares = (scaled**2).sum(axis=1)
    to_shape, to_each = scaled @ terms.to_shape, scaled @ terms.scaled.T
    fixed = np.diag((seen.error * seen.ms) ** 2)
    for place in correction.wild:
        fixed[place, place] += max(residual[place] ** 2, (0.1 * seen.ms[place]) ** 2)
    means, variances, noises, likely = [], [], [], []
    for s in correction.draws:
        matrix = fixed + np.sum([one**2 * gram for one, gram in zip(s, grams, strict=True)], 0)
        factor, _ = factorise(matrix)
        overhead = (s[4] * correction.overhead_ms) ** 2
        cross = (
            s[0] ** 2 * np.outer(total, terms.total) + s[1] ** 2 * spread @ terms.spread.T
            + s[2] ** 2 * to_shape + s[3] ** 2 * to_each + overhead
        )  # fmt: skip
        before = (
            s[0] ** 2 * total**2 + s[1] ** 2 * (spread**2).sum(axis=1) + s[2] ** 2 * own_shape
            + s[3] ** 2 * squares + overhead
        )  # fmt: skip
        solved = solve(factor, np.column_stack([residual, cross.T]))
        means.append(cross @ solved[:, 0])
        variances.append(before - np.einsum("mn,nm->m", cross, solved[:, 1:]))
        noises.append(s[5])
        likely.append(-0.5 * residual @ solved[:, 0] - np.log(np.diag(factor)).sum())
    weights = np.array(correction.weights)
    mean = weights @ np.array(means)
    variance = weights @ np.array(variances) + weights @ (np.array(means) - mean) ** 2
    mean = np.maximum(total + mean, 0.05 * total)
    noise = (float(weights @ np.array(noises)) * mean) ** 2
    std = np.sqrt(correction.inflation * np.maximum(variance, 0) + noise)
    return Predictions(mean, np.maximum(std, FLOOR * mean)), float(weights @ np.array(likely))


def table_of(items: Items, train: Index, ms: Floats) -> Floats:
    """Return the cost of every item ``[B]`` that these networks give: what a toolkit could ship."""
    amounts, counts = items.amounts, items.counts[train]
    weights = weigh(counts @ amounts, ms[train])
    cost = np.maximum(amounts @ weights, 1e-9)
    design = counts * cost / ms[train][:, None]
    target = 1 - counts @ cost / ms[train]
    gram = design.T @ design + RIDGE * np.eye(len(cost))
    return cost * np.maximum(1 + np.linalg.solve(gram, design.T @ target), 0.05)


RIDGE = 0.05
"""Of a shipped table, towards what the features say."""


def _quadratic(row: Floats, kernel: Floats) -> float:
    taken = np.flatnonzero(row)
    return float(row[taken] @ kernel[np.ix_(taken, taken)] @ row[taken])


Method = Callable[[Bench, Index, Index, Floats], Floats]


def line(bench: Bench, train: Index, test: Index, ms: Floats) -> Floats:
    """A straight line on MACs."""
    return _ridge(bench.macs[:, None], train, test, ms, 1e-9)


def counted(bench: Bench, train: Index, test: Index, ms: Floats) -> Floats:
    """Ridge regression on counts of operations."""
    return _ridge(bench.operations, train, test, ms, 1.0)


def placed(bench: Bench, train: Index, test: Index, ms: Floats) -> Floats:
    """An additive block table: ridge regression on operation and place."""
    return _ridge(bench.places, train, test, ms, 1.0)


def has_trees() -> bool:
    """Say whether scikit-learn is there (``pip install hwnas[dev]``): nothing else needs it."""
    return find_spec("sklearn") is not None


def trees(bench: Bench, train: Index, test: Index, ms: Floats) -> Floats:
    """A random forest (extremely randomised) on the same features, in logarithms."""
    from sklearn.ensemble import ExtraTreesRegressor  # pyright: ignore

    x = np.column_stack([bench.macs, bench.operations, bench.places])
    forest: Any = cast(Any, ExtraTreesRegressor)(100, random_state=0)
    return np.exp(forest.fit(x[train], np.log(ms[train])).predict(x[test]))


def _ridge(x: Floats, train: Index, test: Index, ms: Floats, strength: float) -> Floats:
    middle, width = x[train].mean(axis=0), x[train].std(axis=0)
    keep = width > 1e-12
    design = (x[:, keep] - middle[keep]) / width[keep]
    level = ms[train].mean()
    gram = design[train].T @ design[train] + strength * np.eye(int(keep.sum()))
    slope = np.linalg.solve(gram, design[train].T @ (ms[train] - level))
    return np.maximum(level + design[test] @ slope, 1e-3 * level)
