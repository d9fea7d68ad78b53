"""What whole networks say about the costs of their blocks.

``theta_b = m_b (1 + g_b)`` with the block prior's costs ``m``; a network takes ``S theta + o``.
`Terms` has the covariance of ``g``. ``o ~ N(null, tau^2)``. Networks measured in one session share
a factor ``1 + d``, those of one process another one, a profiler's figures a third. All of it is
linear and Gaussian, so the posterior mean is linear in block counts: it is the cost table.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import NamedTuple

import msgspec
import numpy as np

from hwnas.latency_models.features import Floats
from hwnas.latency_models.fitting.covariance_terms import TERMS, Field, Seen, Terms
from hwnas.latency_models.fitting.gaussian import (
    Prior,
    factorise,
    fit_scales,
    leave_one_out,
    solve,
)

DRAWS = 24
FITTED = 200
"""The scales are found on at most so many observations; the posterior uses all."""

PSEUDO = 10
"""Observations that "the intervals are right" counts for against the leave-one-out errors."""

WILD = 4.0
"""Networks whose leave-one-out error is over so many standard deviations are told and widened."""

BIAS = {"alone": 0.15, "null": 0.07, "inside": 0.03}
"""Relative standard deviation of all rows together before any network was measured: for blocks
measured alone, alone with the null model subtracted, and inside networks."""


class Correction(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Hyper-parameters of the correction, and what calibrates its intervals."""

    draws: tuple[tuple[float, ...], ...]
    """Draws of the scales, in the order of `TERMS`; older models lack the last ones."""
    weights: tuple[float, ...]
    overhead_ms: float
    """Standard deviation of the overhead's prior for a scale of 1."""
    inflation: float = 1.0
    """Factor on variances, from leave-one-out errors of networks; at least 1."""
    wild: tuple[int, ...] = ()
    """Observations (by index) that disagree with all others: widened, not dropped."""
    jitter: float = 0.0
    """What was added to the covariance's diagonal, relative, to factorise it."""

    @property
    def scales(self) -> Floats:
        """``[draws, terms]``, 0 for a term that the model lacks."""
        draws = np.array(self.draws)
        return np.pad(draws, ((0, 0), (0, len(TERMS) - draws.shape[1])))


class Posterior(NamedTuple):
    """Costs of blocks and the overhead, and their joint covariance (overhead is last)."""

    ms: Floats
    overhead_ms: float
    covariance: Floats
    """ms^2."""
    noise: float
    """Relative standard deviation that a network's measurement has beside its standard error."""


def fit_correction(seen: Seen, field: Field) -> Correction:
    """Find the scales by marginal likelihood; widen what is wild, calibrate the intervals."""
    whole = seen.network > 0
    typical_ms = float(np.median(seen.ms[whole])) if whole.any() else 1.0
    overhead_ms = (0.02 if field.null_ms > 0 else 0.05) * typical_ms
    grams = Terms(seen, field, overhead_ms).grams()
    residual = _residual(seen, field)
    wild: tuple[int, ...] = ()
    fitted = np.linspace(0, len(seen.ms) - 1, min(len(seen.ms), FITTED)).astype(int)
    some = np.ix_(fitted, fitted)
    used = [place for place, gram in enumerate(grams) if gram.any()]
    parts = [grams[place][some] for place in used]
    priors = _priors(field)
    while True:
        fixed = _fixed(seen, field, residual, wild)

        def covariance(scales: Floats, fixed: Floats = fixed[some]) -> tuple[Floats, list[Floats]]:
            slopes = [2 * scale**2 * part for scale, part in zip(scales, parts, strict=True)]
            return fixed + 0.5 * np.sum(slopes, axis=0), slopes

        scales = fit_scales(residual[fitted], covariance, [priors[place] for place in used], DRAWS)
        matrix = fixed + np.sum(
            [s**2 * grams[place] for s, place in zip(scales.best, used, strict=True)], 0
        )
        error, variance = leave_one_out(residual, matrix)
        scores = error / np.sqrt(variance)
        odd = tuple(int(place) for place in np.flatnonzero(np.abs(scores) > WILD))
        if wild or not odd or len(odd) > max(1, len(scores) // 5):
            break
        wild = odd
    counted = [scores[n] for n in np.flatnonzero(whole) if n not in wild]
    inflation = (PSEUDO + float(np.square(counted).sum())) / (PSEUDO + len(counted))
    draws = np.tile([prior.median for prior in priors], (DRAWS, 1))
    draws[:, used] = scales.draws
    return Correction(
        tuple(map(tuple, draws.tolist())),
        tuple(scales.weights.tolist()),
        overhead_ms,
        max(1.0, float(inflation)),
        wild,
        factorise(matrix)[1],
    )


def posterior(correction: Correction, seen: Seen, field: Field) -> Posterior:
    """Return the costs of the field's blocks given all observations.

    The mixture over the draws of the scales is summed up by its mean and covariance.
    """
    terms, residual = Terms(seen, field, correction.overhead_ms), _residual(seen, field)
    means: list[Floats] = []
    covariances: list[Floats] = []
    for scales, factor in _factors(correction, terms, residual):
        cross = terms.cross(scales)
        means.append(cross @ solve(factor, residual))
        covariances.append(terms.prior(scales) - cross @ solve(factor, cross.T))
    weights = np.array(correction.weights)
    mean = weights @ np.array(means)
    spread = np.array(means) - mean
    joint = np.tensordot(weights, np.array(covariances), 1) + (spread.T * weights) @ spread
    unit = np.append(field.rows.ms, 1.0)
    squares = weights @ np.square(correction.scales)
    noise = float(np.sqrt(squares[5] + (squares[9] if any(seen.process) else 0.0)))
    ms = np.maximum(field.rows.ms * (1 + mean[:-1]), 0.05 * field.rows.ms)
    return Posterior(
        ms,
        field.null_ms + float(mean[-1]),
        correction.inflation * joint * np.outer(unit, unit),
        noise,
    )


def alone_covariance(correction: Correction, seen: Seen, field: Field) -> tuple[Floats, Floats]:
    """Return what timing blocks alone would tell: covariances in ms^2, given all observations.

    ``[B + 1, B]`` of the costs (overhead is last) and the blocks' times alone, and ``[B, B]`` of
    those times. They are the prior rows: their error is a part of that of the costs, beside which
    the deviation inside networks stays.
    """
    terms, residual = Terms(seen, field, correction.overhead_ms), _residual(seen, field)
    size = terms.size
    across, within = np.zeros((size + 1, size)), np.zeros((size, size))
    draws = zip(correction.weights, _factors(correction, terms, residual), strict=True)
    for weight, (scales, factor) in draws:
        told = solve(factor, terms.to_own.T)
        across[:-1] += weight * terms.own
        across -= weight * terms.cross(scales) @ told
        within += weight * (terms.own - terms.to_own @ told)
    unit = field.rows.ms
    return (
        correction.inflation * across * np.outer(np.append(unit, 1.0), unit),
        correction.inflation * within * np.outer(unit, unit),
    )


def _factors(
    correction: Correction, terms: Terms, residual: Floats
) -> Iterator[tuple[Floats, Floats]]:
    """Yield each draw of the scales, and the factor of the observations' covariance under it."""
    grams = terms.grams()
    fixed = _fixed(terms.seen, terms.field, residual, correction.wild)
    for scales in correction.scales:
        matrix = fixed + np.sum([s**2 * gram for s, gram in zip(scales, grams, strict=True)], 0)
        yield scales, factorise(matrix)[0]


def uncorrected(field: Field, bias: float) -> Posterior:
    """Return what is known where no network was measured: the prior, and a common bias."""
    unit = np.append(field.rows.ms, 0.0)
    own = np.zeros((len(unit), len(unit)))
    own[:-1, :-1] = field.rows.covariance
    return Posterior(
        field.rows.ms, field.null_ms, (own + bias**2) * np.outer(unit, unit), TERMS[5].median
    )


def _residual(seen: Seen, field: Field) -> Floats:
    return seen.ms - seen.counts @ field.rows.ms - seen.network * field.null_ms


def _fixed(seen: Seen, field: Field, residual: Floats, wild: Sequence[int]) -> Floats:
    """Return the part of the covariance that no scale multiplies; wild ones count for little."""
    scaled = seen.counts * field.rows.ms
    noise = (seen.error * seen.ms) ** 2
    for place in wild:
        noise[place] += max(float(residual[place]) ** 2, (0.1 * float(seen.ms[place])) ** 2)
    return scaled @ field.rows.covariance @ scaled.T + np.diag(noise)


def _priors(field: Field) -> tuple[Prior, ...]:
    """With no block timed, weights came from these very networks: their deviation stays wide.

    What like blocks have in common is then that of blocks alone as devices show it, 0.2 to 0.4.
    """
    if field.rows.covariance.any():
        return TERMS
    return (TERMS[0], Prior("shares", 1.0, 0.05), Prior("shape", 0.25), *TERMS[3:])
