"""The latency model's numerics on arbitrary items, and plain methods as baselines."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from importlib.util import find_spec
from typing import Any, NamedTuple, cast

import numpy as np

from hwnas.latency_models.features import Floats
from hwnas.latency_models.fitting.block_prior import BlockCosts, fit_nnls, untimed_prior
from hwnas.latency_models.fitting.conditioning import condition
from hwnas.latency_models.fitting.covariance_terms import (
    CovarianceTerms,
    Design,
    Scales,
)
from hwnas.latency_models.fitting.network_correction import fit_correction
from hwnas.latency_models.fitting.network_data import (
    BlockFeatures,
    BlockGrid,
    NetworkData,
)
from hwnas.latency_models.model import MIN_RELATIVE_STD, Predictions
from tools.lib.latency.bench import Bench, Index, Items


class Posterior(NamedTuple):
    """Predictions of a model and its log marginal likelihood."""

    predicted: Predictions
    evidence: float


def gaussian(
    bench: Bench, train: Index, test: Index, ms: Floats, sources: Sequence[Sequence[Floats]] = ()
) -> Predictions:
    """Predict networks ``test`` from networks ``train`` by the latency model.

    ``sources`` are other devices' tables, a ``[B]`` for each of the bench's kinds of items. ``ms``
    are the column's latencies of all networks; those of ``test`` are not used. Several kinds of
    items are averaged, weighted by prior probability times marginal likelihood.
    """
    posteriors = [
        _predict_with(items, train, test, ms[train], [source[number] for source in sources])
        for number, items in enumerate(bench.items)
    ]
    likely = np.array(
        [
            posterior.evidence + np.log(items.prior)
            for posterior, items in zip(posteriors, bench.items, strict=True)
        ]
    )
    weights = np.exp(likely - likely.max())
    weights /= weights.sum()
    means = np.array([posterior.predicted.mean_ms for posterior in posteriors])
    stds = np.array([posterior.predicted.std_ms for posterior in posteriors])
    mean = weights @ means
    return Predictions(mean, np.sqrt(weights @ (stds**2 + (means - mean) ** 2)))


def _predict_with(
    items: Items, train: Index, test: Index, ms: Floats, sources: Sequence[Floats]
) -> Posterior:
    amounts = np.column_stack([items.amounts, *sources])
    counts = items.counts[train]
    prior = untimed_prior(counts, amounts, ms)
    cost = np.maximum(amounts @ np.array(prior.weights), 1e-9)
    costs = BlockCosts(cost, np.zeros((len(cost), len(cost))))
    features = BlockFeatures(amounts, items.coordinates, items.groups, np.zeros(len(cost)))
    grid = BlockGrid((), costs, features, prior, null_ms=0.0)
    error, zeros = np.full(len(train), 1e-3), [0] * len(train)
    data = NetworkData(counts, ms, error, np.ones(len(train)), session=zeros, process=zeros)
    predicted, evidence = predict(grid, data, items.counts[test])
    return Posterior(predicted, evidence)


def predict(grid: BlockGrid, data: NetworkData, counts: Floats) -> tuple[Predictions, float]:
    """Fit the correction and predict networks ``[M, B]`` without their joint covariance.

    Also return the log marginal likelihood.
    """
    correction = fit_correction(data, grid)
    terms = CovarianceTerms(Design(data, grid, correction.overhead_ms), correction.scales)
    residual = data.ms - data.counts @ grid.costs.ms
    fixed = (data.relative_error * data.ms) ** 2
    for place in correction.outliers:
        fixed[place] += max(residual[place] ** 2, (0.1 * data.ms[place]) ** 2)
    scaled = counts * grid.costs.ms
    total = scaled.sum(axis=1)
    on_networks = np.column_stack([scaled, np.ones(len(scaled))]) @ terms.on_state
    draws = [
        _predict_draw(terms, scales, fixed, residual, on_networks)
        for _, scales in correction.draws()
    ]
    weights = np.array(correction.weights)
    means = np.array([mean for mean, _, _ in draws])
    mean = weights @ means
    variance = weights @ np.array([var for _, var, _ in draws]) + weights @ (means - mean) ** 2
    mean = np.maximum(total + mean, 0.05 * total)
    noise = (float(weights @ np.array(correction.scales["noise"])) * mean) ** 2
    std = np.sqrt(correction.inflation * np.maximum(variance, 0) + noise)
    evidence = float(weights @ np.array([likely for _, _, likely in draws]))
    return Predictions(mean, np.maximum(std, MIN_RELATIVE_STD * mean)), evidence


def _predict_draw(
    terms: CovarianceTerms, scales: Scales, fixed: Floats, residual: Floats, on_networks: Floats
) -> tuple[Floats, Floats, float]:
    """Return mean and variance of networks beside their prior costs, and the log likelihood of the
    observations, up to a constant."""
    effects, prior, noise = terms.on_observations, terms.causes(scales), fixed + terms.noise(scales)
    causes = condition(effects, prior, noise, residual)
    variance = np.einsum("nm,nm->n", on_networks @ causes.covariance, on_networks)
    # |D + U C U'| = |D| |I + C U' D^-1 U|
    _, log_ratio = np.linalg.slogdet(np.eye(len(prior)) + prior @ (effects.T / noise) @ effects)
    misfit = residual @ ((residual - effects @ causes.mean) / noise)
    return (
        on_networks @ causes.mean,
        variance,
        -0.5 * float(misfit + np.log(noise).sum() + log_ratio),
    )


def tables_of(bench: Bench, train: Index, ms: Floats) -> list[Floats]:
    """Return the costs of the items ``[B]`` fitted to these networks, ready to be shipped."""
    return [_table(items, train, ms) for items in bench.items]


def _table(items: Items, train: Index, ms: Floats) -> Floats:
    amounts, counts = items.amounts, items.counts[train]
    weights = fit_nnls(counts @ amounts, ms[train])
    cost = np.maximum(amounts @ weights, 1e-9)
    design = counts * cost / ms[train][:, None]
    target = 1 - counts @ cost / ms[train]
    gram = design.T @ design + RIDGE_PENALTY * np.eye(len(cost))
    return cost * np.maximum(1 + np.linalg.solve(gram, design.T @ target), 0.05)


RIDGE_PENALTY = 0.05
"""Ridge penalty of a shipped table, towards the costs by features."""


Method = Callable[[Bench, Index, Index, Floats], Floats]


def line_on_macs(bench: Bench, train: Index, test: Index, ms: Floats) -> Floats:
    """Predict by a straight line on MACs."""
    return _ridge(bench.macs[:, None], train, test, ms, 1e-9)


def ridge_on_counts(bench: Bench, train: Index, test: Index, ms: Floats) -> Floats:
    """Predict by ridge regression on counts of operations."""
    return _ridge(bench.operations, train, test, ms, 1.0)


def ridge_on_positions(bench: Bench, train: Index, test: Index, ms: Floats) -> Floats:
    """Predict by an additive block table: ridge regression on operation and position."""
    return _ridge(bench.places, train, test, ms, 1.0)


def has_sklearn() -> bool:
    """Return whether scikit-learn is installed (``pip install hwnas[evaluation]``)."""
    return find_spec("sklearn") is not None


def random_forest(bench: Bench, train: Index, test: Index, ms: Floats) -> Floats:
    """Predict log latencies by extremely randomised trees on the same features."""
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
