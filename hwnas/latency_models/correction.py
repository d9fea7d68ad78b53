"""What whole networks say about the costs of their blocks.

``theta_b = m_b (1 + g_b)`` with the block prior's costs ``m``; a network takes ``S theta + o``.
``Cov(g) = C0 + s_0^2 11^T + s_w^2 P P^T + s_f^2 Matern52 + s_i^2 I``: the prior's own uncertainty,
what all blocks have in common inside networks, what the resources and what like blocks have in
common, and each block's own. ``o ~ N(null, tau^2)``. Networks measured in one session share a
factor ``1 + d``, those of one process another one, a profiler's figures a third. All of it is
linear and Gaussian, so the posterior mean is linear in block counts: it is the cost table.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import compress
from typing import NamedTuple

import msgspec
import numpy as np

from hwnas.architecture import Block
from hwnas.latency_models.features import Floats, shapes, shares
from hwnas.latency_models.gaussian import (
    Prior,
    factorise,
    fit_scales,
    leave_one_out,
    matern52,
    solve,
)
from hwnas.latency_models.prior import BlockPrior, Index, Rows

DRAWS = 24
FITTED = 200
"""The scales are found on at most so many observations; the posterior uses all."""

PSEUDO = 10
"""Observations that "the intervals are right" counts for against the leave-one-out errors."""

WILD = 4.0
"""Networks whose leave-one-out error is over so many standard deviations are told and widened."""

TERMS = (
    Prior("common", 0.1), Prior("shares", 0.1), Prior("shape", 0.1), Prior("each", 0.04),
    Prior("overhead", 1.0), Prior("noise", 0.02, 1.0), Prior("session", 0.01, 1.0),
    Prior("profiler", 0.1), Prior("profiler noise", 0.05), Prior("process", 0.01),
)  # fmt: skip

BIAS = {"alone": 0.15, "null": 0.07, "inside": 0.03}
"""Relative standard deviation of all rows together before any network was measured: for blocks
measured alone, alone with the null model subtracted, and inside networks."""


class Correction(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Hyper-parameters of the correction, and what calibrates its intervals."""

    draws: tuple[tuple[float, ...], ...]
    """Draws of the scales, in the order of `TERMS`."""
    weights: tuple[float, ...]
    overhead_ms: float
    """Standard deviation of the overhead's prior for a scale of 1."""
    inflation: float = 1.0
    """Factor on variances, from leave-one-out errors of networks; at least 1."""
    wild: tuple[int, ...] = ()
    """Observations (by index) that disagree with all others: widened, not dropped."""
    jitter: float = 0.0
    """What was added to the covariance's diagonal, relative, to factorise it."""


class Seen(NamedTuple):
    """Observations of networks, and of blocks inside them, over a list of blocks."""

    counts: Floats
    """``[N, B]``."""
    ms: Floats
    error: Floats
    """Relative standard error."""
    network: Floats
    """1 where a whole network was measured, 0 for a block inside one."""
    session: Sequence[int]
    process: Sequence[int]


class Posterior(NamedTuple):
    """Costs of blocks and the overhead, and their joint covariance (overhead is last)."""

    ms: Floats
    overhead_ms: float
    covariance: Floats
    """ms^2."""
    noise: float
    """Relative standard deviation that a network's measurement has beside its standard error."""


class Field(NamedTuple):
    """The blocks that the correction is over: prior rows and how their deviations are related."""

    blocks: Sequence[Block]
    rows: Rows
    amounts: Floats
    prior: BlockPrior
    null_ms: float
    coordinates: tuple[Floats, Index] | None = None
    """Of the kernel over shapes, and their groups, where they are not those of `shapes`."""


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
    parts = [gram[some] for gram in grams]
    used = [bool(part.any()) for part in parts]
    nothing = np.zeros((1, 1))
    while True:
        fixed = _fixed(seen, field, residual, wild)

        def covariance(scales: Floats, fixed: Floats = fixed[some]) -> tuple[Floats, list[Floats]]:
            slopes = [
                2 * scale**2 * part if there else nothing
                for scale, part, there in zip(scales, parts, used, strict=True)
            ]
            return fixed + 0.5 * np.sum(list(compress(slopes, used)), axis=0), slopes

        scales = fit_scales(residual[fitted], covariance, _priors(field), DRAWS)
        matrix = fixed + np.sum(
            [s**2 * gram for s, gram in zip(scales.best, grams, strict=True)], 0
        )
        error, variance = leave_one_out(residual, matrix)
        scores = error / np.sqrt(variance)
        odd = tuple(int(place) for place in np.flatnonzero(np.abs(scores) > WILD))
        if wild or not odd or len(odd) > max(1, len(scores) // 5):
            break
        wild = odd
    counted = [scores[n] for n in np.flatnonzero(whole) if n not in wild]
    inflation = (PSEUDO + float(np.square(counted).sum())) / (PSEUDO + len(counted))
    return Correction(
        tuple(map(tuple, scales.draws.tolist())),
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
    terms = Terms(seen, field, correction.overhead_ms)
    grams, residual = terms.grams(), _residual(seen, field)
    fixed = _fixed(seen, field, residual, correction.wild)
    means: list[Floats] = []
    covariances: list[Floats] = []
    for scales in correction.draws:
        matrix = fixed + np.sum([s**2 * gram for s, gram in zip(scales, grams, strict=True)], 0)
        factor, _ = factorise(matrix)
        cross = terms.cross(scales)
        means.append(cross @ solve(factor, residual))
        covariances.append(terms.prior(scales) - cross @ solve(factor, cross.T))
    weights = np.array(correction.weights)
    mean = weights @ np.array(means)
    spread = np.array(means) - mean
    joint = np.tensordot(weights, np.array(covariances), 1) + (spread.T * weights) @ spread
    unit = np.append(field.rows.ms, 1.0)
    squares = weights @ np.square(correction.draws)
    noise = float(np.sqrt(squares[5] + (squares[9] if any(seen.process) else 0.0)))
    ms = np.maximum(field.rows.ms * (1 + mean[:-1]), 0.05 * field.rows.ms)
    return Posterior(
        ms,
        field.null_ms + float(mean[-1]),
        correction.inflation * joint * np.outer(unit, unit),
        noise,
    )


def uncorrected(field: Field, bias: float) -> Posterior:
    """Return what is known where no network was measured: the prior, and a common bias."""
    unit = np.append(field.rows.ms, 0.0)
    own = np.zeros((len(unit), len(unit)))
    own[:-1, :-1] = field.rows.covariance
    return Posterior(
        field.rows.ms, field.null_ms, (own + bias**2) * np.outer(unit, unit), TERMS[5].median
    )


class Terms:
    """The terms of the covariance, between observations and from the state to observations.

    The state is ``(g, o)``: relative deviations of the blocks, and the overhead above the null
    model's, in ms.
    """

    def __init__(self, seen: Seen, field: Field, overhead_ms: float) -> None:
        self.seen, self.size = seen, len(field.rows.ms)
        self.scaled = seen.counts * field.rows.ms
        self.total = self.scaled.sum(axis=1)
        self.overhead_ms = overhead_ms
        self.own = field.rows.covariance
        self.part = shares(field.amounts, np.array(field.prior.weights))
        coordinates, groups = field.coordinates or shapes(field.blocks)
        self.shape, _ = matern52(coordinates, coordinates, field.prior.shape_lengths, groups)
        self.to_own = self.own @ self.scaled.T
        self.to_shape = self.shape @ self.scaled.T
        self.spread = self.scaled @ self.part
        latest = max(seen.session, default=0)
        sessions = np.array(seen.session)
        several = len(set(seen.session)) > 1
        same = sessions[:, None] == sessions[None, :]
        self.together = same * float(several)
        self.latest = (sessions == latest) * float(several)
        process = np.array(seen.process)
        # every session may count its processes from one
        self.beside = same * (process[:, None] == process[None, :]) * (process > 0)

    def grams(self) -> list[Floats]:
        """Return ``[N, N]`` for each of `TERMS`."""
        network, inside = self.seen.network, 1 - self.seen.network
        both = np.outer(self.total, self.total)
        return [
            both,
            self.spread @ self.spread.T,
            self.scaled @ self.to_shape,
            self.scaled @ self.scaled.T,
            self.overhead_ms**2 * np.outer(network, network),
            np.diag(network * self.seen.ms**2),
            both * np.outer(network, network) * self.together,
            both * np.outer(inside, inside),
            np.diag(inside * self.seen.ms**2),
            both * np.outer(network, network) * self.beside,
        ]

    def cross(self, scales: Sequence[float]) -> Floats:
        """Return the prior covariance ``[B + 1, N]`` of state and observations."""
        s_0, s_w, s_f, s_i, s_o, _, s_d, *_ = scales
        to_blocks = (
            self.to_own
            + s_0**2 * self.total
            + s_w**2 * self.part @ self.spread.T
            + s_f**2 * self.to_shape
            + s_i**2 * self.scaled.T
            + s_d**2 * (self.total * self.latest * self.seen.network)
        )
        to_overhead = s_o**2 * self.overhead_ms**2 * self.seen.network
        return np.vstack([to_blocks, to_overhead])

    def prior(self, scales: Sequence[float]) -> Floats:
        """Return the prior covariance ``[B + 1, B + 1]`` of the state."""
        s_0, s_w, s_f, s_i, s_o, _, s_d, *_ = scales
        several = float(self.latest.any())
        whole = np.zeros((self.size + 1, self.size + 1))
        whole[:-1, :-1] = (
            self.own
            + s_0**2
            + s_w**2 * self.part @ self.part.T
            + s_f**2 * self.shape
            + s_i**2 * np.eye(self.size)
            + s_d**2 * several
        )
        whole[-1, -1] = s_o**2 * self.overhead_ms**2
        return whole


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
    """With no block timed, weights came from these very networks: their deviation stays wide."""
    if field.rows.covariance.any():
        return TERMS
    return (TERMS[0], Prior("shares", 1.0, 0.05), *TERMS[2:])
