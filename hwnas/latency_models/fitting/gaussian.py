"""Gaussian process regression in closed form, with hyper-parameters by marginal likelihood.

Rasmussen and Williams, Gaussian Processes for Machine Learning (2006): the posterior is equations
2.23 and 2.24, the marginal likelihood 5.8, its gradient 5.9, leave-one-out 5.10 to 5.12. A
covariance is a sum of terms ``s_j^2 G_j``; all scales are fitted on a logarithmic axis under
log-normal priors, and their uncertainty is given by draws from a Laplace approximation.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple, cast

import numpy as np
from numpy.typing import NDArray
from scipy import optimize  # pyright: ignore[reportMissingTypeStubs]

Floats = NDArray[np.float64]

MIN_JITTER = 1e-10
"""First value added to the diagonal, relative to its mean, if a covariance has no Cholesky
factor."""


class Prior(NamedTuple):
    """Log-normal prior of a positive hyper-parameter."""

    median: float
    log_std: float = 0.7


class ScaleFit(NamedTuple):
    """Hyper-parameters: the most probable values, and draws from their posterior."""

    best: Floats
    draws: Floats
    """``[draws, hyper-parameters]``."""
    weights: Floats
    """Weights of the draws; they sum to 1."""


Covariance = Callable[[Floats], tuple[Floats, list[Floats]]]
"""Maps hyper-parameters to a covariance ``[N, N]`` and its derivatives by their logarithms."""


def factorise(covariance: Floats) -> tuple[Floats, float]:
    """Return the lower Cholesky factor and the jitter that it needed, relative to the diagonal.

    Raises `numpy.linalg.LinAlgError` where even a jitter of 1e-4 does not help.
    """
    if not np.isfinite(covariance).all():  # LAPACK may factorise it without an error
        raise np.linalg.LinAlgError("the covariance has entries that are not finite")
    scale = float(np.mean(np.diag(covariance))) if len(covariance) else 1.0
    jitter = 0.0
    while True:
        try:
            added = jitter * scale * np.eye(len(covariance))
            factor = cast(Floats, np.linalg.cholesky(covariance + added))
            return factor, jitter
        except np.linalg.LinAlgError:
            if jitter > 1e-4:
                raise
            jitter = MIN_JITTER if jitter == 0 else 10 * jitter


def solve(factor: Floats, right: Floats) -> Floats:
    """Solve ``(L L^T) x = right`` for the factor ``L``."""
    return _triangular(factor, solve_lower(factor, right), True)


def solve_lower(factor: Floats, right: Floats) -> Floats:
    """Solve ``L x = right`` for the factor ``L``."""
    return _triangular(factor, right, False)


def leave_one_out(residual: Floats, covariance: Floats) -> tuple[Floats, Floats]:
    """Return error and variance of every observation predicted from all others."""
    factor, _ = factorise(covariance)
    inverse = solve(factor, np.eye(len(covariance)))
    variance = 1 / np.diag(inverse)
    return (inverse @ residual) * variance, variance


def fit_scales(
    residual: Floats, covariance: Covariance, priors: Sequence[Prior], draws: int = 0
) -> ScaleFit:
    """Maximise marginal likelihood times priors, and draw from the Laplace approximation."""
    medians = np.log([prior.median for prior in priors])
    widths = np.array([prior.log_std for prior in priors])

    def objective(logs: Floats) -> tuple[float, Floats]:
        return negative_log_posterior(logs, residual, covariance, medians, widths)

    bounds = [(middle - 5.0, middle + 5.0) for middle in medians]
    result = cast(Any, optimize).minimize(
        objective, medians, jac=True, method="L-BFGS-B", bounds=bounds, options={"maxiter": 60}
    )
    best = np.asarray(result.x, dtype=float)
    sampled, weights = _laplace(best, objective, widths, draws)
    return ScaleFit(np.exp(best), np.exp(sampled), weights)


def negative_log_posterior(
    logs: Floats, residual: Floats, covariance: Covariance, medians: Floats, widths: Floats
) -> tuple[float, Floats]:
    """Return the objective of `fit_scales` and its gradient by the logarithms."""
    matrix, derivatives = covariance(np.exp(logs))
    try:
        factor, _ = factorise(matrix)
    except np.linalg.LinAlgError:
        return 1e25, np.zeros(len(logs))
    inverse = solve(factor, np.eye(len(matrix)))
    alpha = inverse @ residual
    determinant = 2 * float(np.log(np.diag(factor)).sum())
    inner = inverse - np.outer(alpha, alpha)
    gradient = np.array([0.5 * float((inner * part).sum()) for part in derivatives])
    off = (logs - medians) / widths
    value = 0.5 * (float(residual @ alpha) + determinant + float(off @ off))
    return value, gradient + off / widths


def matern52(
    x: Floats, y: Floats, lengths: Floats, groups: NDArray[np.intp]
) -> tuple[Floats, list[Floats]]:
    """Return the Matérn 5/2 kernel ``[X, Y]`` and its derivatives by the logarithms of ``lengths``.

    ``lengths[g]`` holds for the columns with ``groups == g`` (equation 4.17 with a length scale
    for each group).
    """
    squares = [_square_distances(x[:, groups == g], y[:, groups == g]) for g in range(len(lengths))]
    scaled = [square / length**2 for square, length in zip(squares, lengths, strict=True)]
    distance = np.sqrt(5 * np.sum(scaled, axis=0))
    decay = np.exp(-distance)
    kernel = (1 + distance + distance**2 / 3) * decay
    slope = (1 + distance) * decay * 5 / 3
    return kernel, [slope * part for part in scaled]


def _square_distances(x: Floats, y: Floats) -> Floats:
    lengths = (x**2).sum(axis=1)[:, None] + (y**2).sum(axis=1)[None, :]
    return np.maximum(lengths - 2 * x @ y.T, 0.0)


def _laplace(
    best: Floats,
    objective: Callable[[Floats], tuple[float, Floats]],
    widths: Floats,
    draws: int,
) -> tuple[Floats, Floats]:
    """Draw around the optimum by the curvature there, and weight the draws by importance."""
    if draws == 0:
        return best[None, :], np.ones(1)
    step = 1e-3
    count = len(best)
    curvature = np.zeros((count, count))
    for place in range(count):
        shift = np.zeros(count)
        shift[place] = step
        curvature[place] = (objective(best + shift)[1] - objective(best - shift)[1]) / (2 * step)
    curvature = (curvature + curvature.T) / 2
    values, vectors = np.linalg.eigh(curvature)
    # the prior alone has curvature 1 / widths^2: no posterior is less certain
    values = np.maximum(values, 1 / float(widths.max()) ** 2)
    normal = np.random.default_rng(0).standard_normal((draws, count))
    sampled = best + (normal / np.sqrt(values)) @ vectors.T
    logs = np.array([-objective(draw)[0] for draw in sampled]) + 0.5 * (normal**2).sum(axis=1)
    weights = np.exp(np.minimum(logs - logs.max(), 0.0))
    return sampled, weights / weights.sum()


def _triangular(factor: Floats, right: Floats, transposed: bool) -> Floats:
    from scipy.linalg import solve_triangular  # pyright: ignore

    solved: Any = cast(Any, solve_triangular)(
        factor, right, lower=True, trans=1 if transposed else 0, check_finite=False
    )
    return solved
