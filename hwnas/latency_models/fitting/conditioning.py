"""Gaussian causes given observations that are linear in them.

``seen = effects @ z + e`` with causes ``z ~ N(0, prior)`` and independent errors ``e`` of variance
``noise``. With ``N`` observations and ``M`` causes the posterior takes ``O(N^2 (N + M))`` by the
covariance of the observations and ``O(M^2 (N + M))`` by that of the causes (the matrix inversion
lemma); the smaller of the two is used (Rasmussen and Williams, Gaussian Processes for Machine
Learning, 2006, equations 2.11 and 2.12).
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from hwnas.latency_models.fitting import gaussian
from hwnas.latency_models.fitting.gaussian import Floats, factorise, solve_lower


class Conditioned(NamedTuple):
    """The posterior of the causes."""

    mean: Floats
    """``[M]``."""
    covariance: Floats
    """``[M, M]``."""
    jitter: float
    """Added to the diagonal of the factorised covariance, relative to its mean."""


def condition(effects: Floats, prior: Floats, noise: Floats, seen: Floats) -> Conditioned:
    """Return the posterior of the causes given ``seen [N]``, for ``effects [N, M]``."""
    observations, causes = effects.shape
    if observations <= causes:
        cross = effects @ prior
        factor, jitter = factorise(np.diag(noise) + cross @ effects.T)
        explained = solve_lower(factor, np.column_stack([seen, cross]))
        seen, cross = explained[:, 0], explained[:, 1:]
        return Conditioned(cross.T @ seen, prior - cross.T @ cross, jitter)
    root, jitter = factorise(prior)
    scale = 1 / np.sqrt(noise)
    whitened = (effects @ root) * scale[:, None]
    factor, _ = factorise(np.eye(causes) + whitened.T @ whitened)
    spread = solve_lower(factor, root.T)
    mean = spread.T @ solve_lower(factor, whitened.T @ (seen * scale))
    return Conditioned(mean, spread.T @ spread, jitter)


def leave_one_out(
    effects: Floats, prior: Floats, noise: Floats, seen: Floats, posterior: Conditioned
) -> tuple[Floats, Floats]:
    """Return error and variance ``[N]`` of every observation predicted from all others.

    With more observations than causes they follow from the posterior given all, by the leverage of
    each observation; the leverage of few observations is too close to 1 for that.
    """
    observations, causes = effects.shape
    if observations <= causes:
        return gaussian.leave_one_out(seen, effects @ prior @ effects.T + np.diag(noise))
    leverage = np.einsum("nm,nm->n", effects @ posterior.covariance, effects) / noise
    rest = 1 - leverage
    return (seen - effects @ posterior.mean) / rest, noise / rest
