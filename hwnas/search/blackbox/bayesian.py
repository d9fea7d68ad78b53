"""Search by a model of the accuracy: for networks whose accuracy is expensive to ask for.

A Gaussian process over features; the networks of greatest expected improvement (Jones, Schonlau
and Welch, 1998) are judged next. The covariance of two networks is ``exp(-distance / length)``,
the distance being the sum of the features' differences. Where nobody gives features, it is the
number of decisions in which they differ; features that are equal for networks that compute the
same, like the paths of BANANAS (White et al., AAAI 2021, arXiv:1910.11858), save most queries.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray
from scipy.linalg import cho_factor, cho_solve, solve_triangular
from scipy.spatial.distance import cdist
from scipy.stats import norm, rankdata

from hwnas.search.blackbox.evolution import (
    Choices,
    Figures,
    Judge,
    Judged,
    Problem,
    drawn,
    neighbours,
    random_search,
)

Features = NDArray[np.float64]
"""What networks are compared by, ``[N, F]``."""
LENGTHS = (1.0, 2.0, 4.0, 8.0, 16.0)
"""Tried for each fit; the one of greatest marginal likelihood is taken."""
NOISE = 1e-2
"""Variance that the choices do not explain, of 1 in all."""


def model_based_search(
    problem: Problem,
    limit_ms: float,
    queries: int,
    rng: np.random.Generator,
    start: int = 20,
    batch: int = 5,
    pool: int = 2000,
    features: Callable[[Choices], Features] | None = None,
) -> Judged:
    """Judge ``queries`` networks within the limit: ``start`` at random, then by the model.

    Of ``pool`` random networks and the neighbours of the ten best, ``batch`` are judged at a time.
    """
    described = features if features is not None else lambda rows: one_hot(problem, rows)
    judge = Judge(problem)
    judge(random_search(problem, limit_ms, min(start, queries), rng).choices)
    while judge.queries < queries:
        known = judge.judged()
        best = known.choices[np.argsort(-known.accuracy)[:10]]
        around = [problem.canonical(neighbours(problem, row)) for row in best]
        offered = np.unique(np.concatenate([drawn(problem, pool, rng), *around]), axis=0)
        offered = offered[problem.latency_ms(offered) <= limit_ms]
        offered = offered[[judge.is_new(row) for row in offered]]
        if not len(offered):
            break
        gain = expected_improvement(
            described(known.choices), normal_scores(known.accuracy), described(offered)
        )
        count = min(batch, queries - judge.queries)
        judge(offered[np.argsort(-gain, kind="stable")[:count]])
    return judge.judged()


def normal_scores(values: Figures) -> Figures:
    """Return the values' ranks as quantiles of a normal: failed networks are no outliers then."""
    return norm.ppf((rankdata(values) - 0.5) / len(values))


def expected_improvement(known: Features, values: Figures, offered: Features) -> Figures:
    """Return what each of ``offered [M, F]`` is expected to be better than the best known by."""
    apart = cdist(known, known, "cityblock")
    fits = [_fit(np.exp(-apart / length), values) for length in LENGTHS]
    number = int(np.argmax([fit[0] for fit in fits]))
    _, factor, weights = fits[number]
    across = np.exp(-cdist(offered, known, "cityblock") / LENGTHS[number])
    mean = across @ weights
    explained = (solve_triangular(factor, across.T, lower=True) ** 2).sum(0)
    std = np.sqrt(np.maximum(1 - explained, 1e-9))
    z = (mean - values.max()) / std
    return std * (z * norm.cdf(z) + norm.pdf(z))


def one_hot(problem: Problem, rows: Choices) -> Features:
    """Return a half for each candidate taken: two networks' distance is their differences."""
    starts = np.cumsum([0, *problem.sizes[:-1]])
    features = np.zeros((len(rows), sum(problem.sizes)))
    np.put_along_axis(features, rows + starts, 0.5, axis=1)
    return features


def _fit(
    covariance: NDArray[np.float64], values: Figures
) -> tuple[float, NDArray[np.float64], Figures]:
    """Return the log marginal likelihood (less a constant), the Cholesky factor, the weights."""
    factor, lower = cho_factor(covariance + NOISE * np.eye(len(values)), lower=True)
    factor = np.tril(factor)
    weights = cho_solve((factor, lower), values)
    likelihood = -0.5 * values @ weights - np.log(np.diag(factor)).sum()
    return float(likelihood), factor, weights
