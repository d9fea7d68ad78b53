"""The prior cost of each block, from its features and from timings of single blocks.

``log y_b = log(phi_b . w) + h_b + e_b``: ``phi`` are the block's resources and, for a model adapted
from other devices, its latency there (a coregionalised process); ``w >= 0``; ``Cov(h) = s_w^2 P P^T
+ s_f^2 Matern52`` with the shares ``P`` of the resources, and ``e ~ N(0, s_e^2)`` for each block.
The model is in logarithms, because a kernel size may cost ten times as much as the next one.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple, cast

import msgspec
import numpy as np
from numpy.typing import NDArray
from scipy import optimize  # pyright: ignore[reportMissingTypeStubs]

from hwnas.architecture.architecture import Block
from hwnas.latency_models.features import SHAPE_GROUPS, Floats, resources, shapes, shares
from hwnas.latency_models.fitting.gaussian import (
    Prior,
    factorise,
    fit_scales,
    leave_one_out,
    matern52,
    solve,
)

Index = NDArray[np.intp]

RIDGE_STRENGTH = 1e-3
MAX_FIT_BLOCKS = 250
"""Hyper-parameters are fitted to at most this many blocks; the posterior uses all of them."""

OUTLIER_SIGMA = 4.0
"""A measurement with a larger leave-one-out error, in standard deviations, is an outlier."""

UNTIMED_LENGTH_SCALE = 4.0
"""Length scale of all groups if no block was timed; fits to devices whose blocks were timed give
1.5 to 7."""

SHARES, SHAPE, EACH, LENGTH = Prior(0.2), Prior(0.2), Prior(0.04), Prior(2.0, 0.6)
"""Priors of the scales ``s_w``, ``s_f`` and ``s_e`` and of each length scale."""


class BlockPrior(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Weights of the regressors and hyper-parameters; with the timings they are the posterior."""

    weights: tuple[float, ...]
    """ms for each unit of `RESOURCES`, then for each ms on a source device."""
    shares: float = SHARES.median
    shape: float = SHAPE.median
    each: float = EACH.median
    lengths: tuple[float, ...] = (LENGTH.median,) * len(SHAPE_GROUPS)
    """Length scale of each of `SHAPE_GROUPS`."""
    outliers: tuple[str, ...] = ()
    """Keys of blocks whose timing disagrees with all others; they are given less weight."""


class TimedBlocks(NamedTuple):
    """Blocks that were timed one by one; the runtime's call is subtracted."""

    blocks: list[Block]
    ms: Floats
    relative_error: Floats
    """Standard error of each time, relative to it."""


class BlockCosts(NamedTuple):
    """Costs of blocks: ``ms [B]`` and the covariance ``[B, B]`` of their relative errors."""

    ms: Floats
    covariance: Floats


class Residuals(NamedTuple):
    """The parts of networks' latencies that are due to blocks that were never timed."""

    regressors: Floats
    """``[N, J]``, summed over those blocks of each network."""
    ms: Floats
    """Latency of each network less its timed blocks and the call."""
    total_ms: Floats
    """Latency of each network, to which errors are relative."""


def cost_regressors(blocks: Sequence[Block], source_ms: Sequence[Floats]) -> Floats:
    """Return ``[B, J]``: the resources of each block, then its latency on each source device."""
    return np.column_stack([resources(blocks), *source_ms])


def fit_prior(
    timed: TimedBlocks, regressors: Floats, residuals: Residuals | None = None
) -> BlockPrior:
    """Fit weights and hyper-parameters to the timings of single blocks.

    ``residuals`` are given if most blocks of the networks were never timed. Then the weights are
    fitted to them, too, since the timed blocks may lack a resource that the others use. The
    hyper-parameters are not fitted in this case but fixed: the weights of resources stay free, and
    the scale of the shape kernel is that of devices whose blocks were timed (0.2 to 0.4).
    """
    if residuals is None:
        weights = fit_nnls(regressors, timed.ms)
    else:
        both = np.vstack([regressors, residuals.regressors])
        ms = np.append(timed.ms, residuals.ms)
        weights = fit_nnls(both, ms, np.append(timed.ms, residuals.total_ms))
    subset = np.linspace(0, len(timed.ms) - 1, min(len(timed.ms), MAX_FIT_BLOCKS)).astype(int)
    order = np.argsort(timed.ms)[subset]
    by_share = shares(regressors[order], weights)
    coordinates, groups = shapes([timed.blocks[int(place)] for place in order])
    residual = np.log(timed.ms[order] / (regressors[order] @ weights))
    gram, noise = by_share @ by_share.T, np.diag(timed.relative_error[order] ** 2)
    identity = np.eye(len(order))

    def covariance(hypers: Floats) -> tuple[Floats, list[Floats]]:
        s_w, s_f, s_e = hypers[:3]
        similarity, slopes = matern52(coordinates, coordinates, hypers[3:], groups)
        terms = [s_w**2 * gram, s_f**2 * similarity, s_e**2 * identity]
        by_length = [s_f**2 * slope for slope in slopes]
        return np.sum(terms, axis=0) + noise, [*(2 * term for term in terms), *by_length]

    priors = [SHARES, SHAPE, EACH, *([LENGTH] * len(SHAPE_GROUPS))]
    if residuals is not None:
        best = np.array([1.0, 0.25, EACH.median, *([UNTIMED_LENGTH_SCALE] * len(SHAPE_GROUPS))])
    elif len(order) > 2:
        best = fit_scales(residual, covariance, priors).best
    else:
        best = np.array([prior.median for prior in priors])
    s_w, s_f, s_e, *lengths = best.tolist()
    error, variance = leave_one_out(residual, covariance(best)[0])
    is_outlier = np.abs(error) > OUTLIER_SIGMA * np.sqrt(variance)
    outliers = tuple(timed.blocks[int(place)].key for place in order[is_outlier])
    return BlockPrior(tuple(weights.tolist()), s_w, s_f, s_e, tuple(lengths), outliers)


def untimed_prior(counts: Floats, regressors: Floats, ms: Floats) -> BlockPrior:
    """Return the prior where only whole networks ``counts [N, B]`` were measured: ``ms [N]``."""
    weights = fit_nnls(counts @ regressors, ms)
    lengths = (UNTIMED_LENGTH_SCALE,) * len(SHAPE_GROUPS)
    return BlockPrior(tuple(weights.tolist()), lengths=lengths)


def fit_nnls(regressors: Floats, ms: Floats, unit_ms: Floats | None = None) -> Floats:
    """Return weights >= 0 with ``regressors @ weights`` near ``ms`` (ridge, non-negative).

    Errors are relative to ``unit_ms``; ``None``: to ``ms``.
    """
    unit_ms = ms if unit_ms is None else unit_ms
    relative = regressors / unit_ms[:, None]
    typical = np.maximum(np.abs(relative).mean(axis=0), 1e-300)
    rows, columns = relative.shape
    design = np.vstack([relative / typical, np.sqrt(RIDGE_STRENGTH * rows) * np.eye(columns)])
    target = np.concatenate([ms / unit_ms, np.zeros(columns)])
    solved: Floats = cast(Any, optimize).nnls(design, target)[0]
    return solved / typical


def prior_covariance(
    prior: BlockPrior, blocks: Sequence[Block], regressors: Floats, columns: int | None = None
) -> Floats:
    """Return the prior covariance of the logarithms, ``[B, B]`` or its first ``columns``."""
    by_share = shares(regressors, np.array(prior.weights))
    coordinates, groups = shapes(blocks)
    end = len(blocks) if columns is None else columns
    similarity, _ = matern52(coordinates, coordinates[:end], np.array(prior.lengths), groups)
    identity = np.eye(len(blocks))[:, :end]
    return (
        prior.shares**2 * (by_share @ by_share[:end].T)
        + prior.shape**2 * similarity
        + prior.each**2 * identity
    )


def posterior_costs(
    prior: BlockPrior, timed: TimedBlocks, blocks: Sequence[Block], regressors: Floats
) -> BlockCosts:
    """Return the cost of each of ``blocks``, given the timings.

    ``regressors`` are those of the timed blocks, then of ``blocks``. A timed block costs its time,
    with the posterior's variance; the others cost the posterior's median.
    """
    known = len(timed.blocks)
    mean_ms = np.maximum(regressors @ np.array(prior.weights), 1e-9)
    if known == 0:
        return BlockCosts(mean_ms, np.zeros((len(blocks), len(blocks))))
    place = {block: number for number, block in enumerate(timed.blocks)}
    untimed = [number for number, block in enumerate(blocks) if block not in place]
    distinct = [*timed.blocks, *(blocks[number] for number in untimed)]
    rows = [*range(known), *(known + number for number in untimed)]
    whole = prior_covariance(prior, distinct, regressors[rows])
    noise = timed.relative_error**2
    factor, _ = factorise(whole[:known, :known] + np.diag(noise))
    residual = np.log(timed.ms / mean_ms[:known])
    gain = solve(factor, whole[:known]).T
    logs = np.log(mean_ms[rows]) + gain @ residual
    covariance = whole - gain @ whole[:known]
    _widen_outliers(prior, timed, factor, residual, covariance)
    ms = np.exp(logs)
    ms[:known] = timed.ms
    ranks = {number: known + rank for rank, number in enumerate(untimed)}
    order = [place.get(block, ranks.get(number, 0)) for number, block in enumerate(blocks)]
    return BlockCosts(ms[order], covariance[np.ix_(order, order)])


def _widen_outliers(
    prior: BlockPrior, timed: TimedBlocks, factor: Floats, residual: Floats, covariance: Floats
) -> None:
    """Widen the variance of outliers to cover the prediction from the other blocks, so that
    networks can overrule them."""
    if not prior.outliers:
        return
    inverse = solve(factor, np.eye(len(residual)))
    error = (inverse @ residual) / np.diag(inverse)
    for number, block in enumerate(timed.blocks):
        if block.key in prior.outliers:
            covariance[number, number] += float(error[number]) ** 2
