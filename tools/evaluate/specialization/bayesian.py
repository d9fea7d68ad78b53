"""Bayesian optimisation: search by a model of the accuracy, where accuracy is expensive.

A Gaussian process over features; the networks of greatest expected improvement (Jones, Schonlau
and Welch, 1998) are evaluated next. The covariance of two networks is ``exp(-distance / length)``,
where the distance is the sum of the absolute differences of their features. Without features it
is the number of decisions that differ; features that are equal for equivalent networks, like the
paths of BANANAS (White et al., AAAI 2021, arXiv:1910.11858), save most queries.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray
from scipy.linalg import cho_factor, cho_solve, solve_triangular
from scipy.spatial.distance import cdist
from scipy.stats import norm, rankdata

from hwnas.search.blackbox.evolution import random_search
from hwnas.search.blackbox.problem import (
    Choices,
    EvaluatedSet,
    Evaluator,
    Problem,
    Scores,
    neighbours,
    random_choices,
)

Features = NDArray[np.float64]
"""Features of networks, ``[N, F]``."""
LENGTH_SCALES = (1.0, 2.0, 4.0, 8.0, 16.0)
"""Candidates for the length scale; the largest marginal likelihood decides."""
NOISE_VARIANCE = 1e-2
"""Noise variance, relative to a total variance of 1."""


def model_based_search(
    problem: Problem,
    limit_ms: float,
    queries: int,
    rng: np.random.Generator,
    start: int = 20,
    batch: int = 5,
    pool: int = 2000,
    features: Callable[[Choices], Features] | None = None,
) -> EvaluatedSet:
    """Evaluate ``queries`` networks within the limit: ``start`` at random, then by the model.

    Each round evaluates ``batch`` of ``pool`` random networks and neighbours of the ten best.
    """
    described = features if features is not None else lambda rows: one_hot(problem, rows)
    evaluator = Evaluator(problem)
    evaluator(random_search(problem, limit_ms, min(start, queries), rng).choices)
    while evaluator.queries < queries:
        known = evaluator.evaluated()
        best = known.choices[np.argsort(-known.accuracy)[:10]]
        neighbourhoods = [problem.canonical(neighbours(problem, row)) for row in best]
        offered = np.concatenate([random_choices(problem, pool, rng), *neighbourhoods])
        offered = np.unique(offered, axis=0)
        offered = offered[problem.latency_ms(offered) <= limit_ms]
        offered = offered[[evaluator.is_new(row) for row in offered]]
        if not len(offered):
            break
        gain = expected_improvement(
            described(known.choices), normal_scores(known.accuracy), described(offered)
        )
        count = min(batch, queries - evaluator.queries)
        evaluator(offered[np.argsort(-gain, kind="stable")[:count]])
    return evaluator.evaluated()


def normal_scores(values: Scores) -> Scores:
    """Return the normal quantiles of the values' ranks, so that failed networks are no outliers."""
    return norm.ppf((rankdata(values) - 0.5) / len(values))


def expected_improvement(known: Features, values: Scores, offered: Features) -> Scores:
    """Return the expected improvement of each of ``offered [M, F]`` over the best known value."""
    apart = cdist(known, known, "cityblock")
    fits = [_fit(np.exp(-apart / length), values) for length in LENGTH_SCALES]
    number = int(np.argmax([fit[0] for fit in fits]))
    _, factor, weights = fits[number]
    across = np.exp(-cdist(offered, known, "cityblock") / LENGTH_SCALES[number])
    mean = across @ weights
    explained = (solve_triangular(factor, across.T, lower=True) ** 2).sum(0)
    std = np.sqrt(np.maximum(1 - explained, 1e-9))
    z = (mean - values.max()) / std
    return std * (z * norm.cdf(z) + norm.pdf(z))


def one_hot(problem: Problem, rows: Choices) -> Features:
    """Return 0.5 for each chosen candidate: the distance of two networks is their differences."""
    starts = np.cumsum([0, *problem.sizes[:-1]])
    features = np.zeros((len(rows), sum(problem.sizes)))
    np.put_along_axis(features, rows + starts, 0.5, axis=1)
    return features


def _fit(
    covariance: NDArray[np.float64], values: Scores
) -> tuple[float, NDArray[np.float64], Scores]:
    """Return the log marginal likelihood (less a constant), the Cholesky factor, the weights."""
    factor, lower = cho_factor(covariance + NOISE_VARIANCE * np.eye(len(values)), lower=True)
    factor = np.tril(factor)
    weights = cho_solve((factor, lower), values)
    likelihood = -0.5 * values @ weights - np.log(np.diag(factor)).sum()
    return float(likelihood), factor, weights
