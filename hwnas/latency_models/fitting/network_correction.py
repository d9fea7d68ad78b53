"""Correction of the costs of blocks by measurements of whole networks.

``theta_b = m_b (1 + g_b)`` with the block prior's costs ``m``; a network takes ``S theta + o``,
where ``S`` counts its blocks. `covariance_terms` defines the covariance of ``g``, of the overhead
``o`` and of errors that measurements share. The model is linear and Gaussian, so the posterior mean
is linear in the block counts: it is the cost table.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import NamedTuple

import msgspec
import numpy as np

from hwnas.latency_models.features import Floats
from hwnas.latency_models.fitting.block_prior import OUTLIER_SIGMA
from hwnas.latency_models.fitting.conditioning import condition, leave_one_out
from hwnas.latency_models.fitting.covariance_terms import (
    TERMS,
    CovarianceTerms,
    Design,
    Scales,
)
from hwnas.latency_models.fitting.gaussian import Prior, ScaleFit, fit_scales
from hwnas.latency_models.fitting.network_data import (
    BlockGrid,
    NetworkData,
)

NUM_DRAWS = 24
MAX_FIT_OBSERVATIONS = 200
"""The scales are fitted to at most this many observations; the posterior uses all of them."""

CALIBRATION_PSEUDO_COUNT = 10
"""Weight of the assumption that the intervals are calibrated, against the leave-one-out errors, in
observations."""

COMMON_BIAS_STD = {"isolated": 0.15, "less call": 0.07, "in network": 0.03}
"""Relative standard deviation of all costs together while no network was measured: for isolated
blocks, isolated blocks less the null model, and blocks inside networks."""


class Correction(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The scales of the covariance's terms, and what calibrates the intervals."""

    scales: dict[str, tuple[float, ...]]
    """Draws of each scale, by the term's name in `TERMS`; terms without an effect are left out."""
    weights: tuple[float, ...]
    """Weights of the draws; they sum to 1."""
    overhead_ms: float
    """Standard deviation of the overhead's prior for a scale of 1."""
    inflation: float = 1.0
    """Factor on variances, from leave-one-out errors of networks; at least 1."""
    outliers: tuple[int, ...] = ()
    """Indices of observations that disagree with all others; they are given less weight."""
    jitter: float = 0.0
    """Added to the covariance's diagonal to factorise it, relative to its mean."""

    def __post_init__(self) -> None:
        if unknown := set(self.scales) - set(TERMS):
            raise ValueError(f"unknown covariance terms {sorted(unknown)}, expected {[*TERMS]}")

    def draws(self) -> Iterator[tuple[float, Scales]]:
        """Yield the weight and the scales of each draw."""
        for number, weight in enumerate(self.weights):
            yield weight, {name: values[number] for name, values in self.scales.items()}

    def mean_square(self, name: str) -> float:
        """Return the mean of a term's squared scale over the draws."""
        return float(np.array(self.weights) @ np.square(self.scales[name]))


class Posterior(NamedTuple):
    """Costs of blocks and the overhead, and their joint covariance (overhead is last)."""

    ms: Floats
    overhead_ms: float
    covariance: Floats
    """ms^2."""
    noise: float
    """Relative standard deviation of a network's measurement, beside its standard error."""


def fit_correction(data: NetworkData, grid: BlockGrid) -> Correction:
    """Fit the scales by marginal likelihood, widen outliers and calibrate the intervals."""
    networks = data.is_network > 0
    typical_ms = float(np.median(data.ms[networks])) if networks.any() else 1.0
    overhead_ms = (0.02 if grid.null_ms > 0 else 0.05) * typical_ms
    terms = CovarianceTerms(Design(data, grid, overhead_ms))
    fit = _fit(terms, ())
    if outliers := _outliers(fit.scores):
        fit = _fit(terms, outliers)
    calibrating = [fit.scores[n] for n in np.flatnonzero(networks) if n not in outliers]
    squares = float(np.square(calibrating).sum())
    inflation = (CALIBRATION_PSEUDO_COUNT + squares) / (CALIBRATION_PSEUDO_COUNT + len(calibrating))
    draws = zip(fit.names, fit.scales.draws.T.tolist(), strict=True)
    return Correction(
        {name: tuple(values) for name, values in draws},
        tuple(fit.scales.weights.tolist()),
        overhead_ms,
        max(1.0, inflation),
        outliers,
        fit.jitter,
    )


class _Fit(NamedTuple):
    """Fitted scales of those terms that have an effect on the observations."""

    names: tuple[str, ...]
    scales: ScaleFit
    scores: Floats
    """Leave-one-out errors in standard deviations."""
    jitter: float


def _fit(terms: CovarianceTerms, outliers: Sequence[int]) -> _Fit:
    data, grid = terms.design.data, terms.design.grid
    residual = _residual(data, grid)
    noise = _fixed_noise(data, residual, outliers)
    rows = np.linspace(0, len(data.ms) - 1, min(len(data.ms), MAX_FIT_OBSERVATIONS)).astype(int)
    names = tuple(name for name in terms.effects if terms.acts(name))
    parts = [terms.gram(name, rows) for name in names]
    block_ms = terms.design.block_ms[rows]
    fixed = block_ms @ grid.costs.covariance @ block_ms.T + np.diag(noise[rows])

    def covariance(scales: Floats) -> tuple[Floats, list[Floats]]:
        slopes = [2 * scale**2 * part for scale, part in zip(scales, parts, strict=True)]
        return fixed + 0.5 * np.sum(slopes, axis=0), slopes

    priors = [_prior(name, grid) for name in names]
    fitted = fit_scales(residual[rows], covariance, priors, NUM_DRAWS)
    best = dict.fromkeys(terms.effects, 0.0) | dict(zip(names, fitted.best.tolist(), strict=True))
    noise = noise + terms.noise(best)
    model = (terms.on_observations, terms.causes(best), noise, residual)
    whole = condition(*model)
    error, variance = leave_one_out(*model, whole)
    return _Fit(names, fitted, error / np.sqrt(variance), whole.jitter)


def _outliers(scores: Floats) -> tuple[int, ...]:
    """Return the observations that disagree with all others; none if there are too many of them."""
    outliers = tuple(int(place) for place in np.flatnonzero(np.abs(scores) > OUTLIER_SIGMA))
    return outliers if len(outliers) <= max(1, len(scores) // 5) else ()


def _prior(name: str, grid: BlockGrid) -> Prior:
    term, is_timed = TERMS[name], grid.costs.covariance.any()
    return term.prior if is_timed or term.untimed_prior is None else term.untimed_prior


def posterior(correction: Correction, data: NetworkData, grid: BlockGrid) -> Posterior:
    """Return the costs of the grid's blocks given all observations.

    The mixture over the draws of the scales is summarised by its mean and covariance.
    """
    terms, residual = _terms(correction, data, grid), _residual(data, grid)
    noise = _fixed_noise(data, residual, correction.outliers)
    means: list[Floats] = []
    covariances: list[Floats] = []
    for _, scales in correction.draws():
        causes = condition(
            terms.on_observations, terms.causes(scales), noise + terms.noise(scales), residual
        )
        means.append(terms.on_state @ causes.mean)
        covariances.append(terms.on_state @ causes.covariance @ terms.on_state.T)
    weights = np.array(correction.weights)
    mean = weights @ np.array(means)
    centred = np.array(means) - mean
    joint = np.tensordot(weights, np.array(covariances), 1) + (centred.T * weights) @ centred
    unit = np.append(grid.costs.ms, 1.0)
    return Posterior(
        np.maximum(grid.costs.ms * (1 + mean[:-1]), 0.05 * grid.costs.ms),
        grid.null_ms + float(mean[-1]),
        correction.inflation * joint * np.outer(unit, unit),
        sum(correction.mean_square(n) for n in terms.effects if TERMS[n].is_noise) ** 0.5,
    )


def isolated_covariance(
    correction: Correction, data: NetworkData, grid: BlockGrid
) -> tuple[Floats, Floats]:
    """Return the covariances in ms^2 of the times of isolated blocks, given all observations.

    ``[B + 1, B]`` of costs (overhead is last) and isolated times, and ``[B, B]`` of the times. The
    prior costs are isolated times: their error is a part of that of the costs, beside which the
    deviation inside networks remains.
    """
    terms, residual = _terms(correction, data, grid), _residual(data, grid)
    noise = _fixed_noise(data, residual, correction.outliers)
    size, prior = terms.design.size, grid.costs.covariance
    # the error of the prior costs and the deviation inside networks are causes of their own
    on_observations = np.hstack([terms.design.block_ms, terms.on_observations])
    on_state = np.hstack([terms.on_state[:, :size], terms.on_state])
    across, within = np.zeros((size + 1, size)), np.zeros((size, size))
    nothing = np.zeros((size, len(on_state.T) - size))
    for weight, scales in correction.draws():
        causes = terms.causes(scales)
        causes[:size, :size] -= prior
        joint = np.block([[prior, nothing], [nothing.T, causes]])
        both = condition(on_observations, joint, noise + terms.noise(scales), residual)
        across += weight * on_state @ both.covariance[:, :size]
        within += weight * both.covariance[:size, :size]
    unit = grid.costs.ms
    return (
        correction.inflation * across * np.outer(np.append(unit, 1.0), unit),
        correction.inflation * within * np.outer(unit, unit),
    )


def uncorrected(grid: BlockGrid, bias_std: float) -> Posterior:
    """Return the posterior while no network was measured: the prior, with a common bias."""
    unit = np.append(grid.costs.ms, 0.0)
    covariance = np.zeros((len(unit), len(unit)))
    covariance[:-1, :-1] = grid.costs.covariance
    covariance = (covariance + bias_std**2) * np.outer(unit, unit)
    return Posterior(grid.costs.ms, grid.null_ms, covariance, TERMS["noise"].prior.median)


def _terms(correction: Correction, data: NetworkData, grid: BlockGrid) -> CovarianceTerms:
    return CovarianceTerms(Design(data, grid, correction.overhead_ms), correction.scales)


def _residual(data: NetworkData, grid: BlockGrid) -> Floats:
    return data.ms - data.counts @ grid.costs.ms - data.is_network * grid.null_ms


def _fixed_noise(data: NetworkData, residual: Floats, outliers: Sequence[int]) -> Floats:
    """Return the variance ``[N]`` of each observation that no scale multiplies, in ms^2, with
    outliers widened."""
    noise = (data.relative_error * data.ms) ** 2
    for place in outliers:
        noise[place] += max(float(residual[place]) ** 2, (0.1 * float(data.ms[place])) ** 2)
    return noise
