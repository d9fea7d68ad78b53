"""What each block probably costs, from its features and from timings of single blocks.

``log y_b = log(phi_b . w) + h_b + e_b``: ``phi`` are the block's resources (and, for a model that
is adapted from other devices', its latency there: a coregionalised process), ``w >= 0``;
``Cov(h) = s_w^2 P P^T + s_f^2 Matern52`` with the shares ``P`` of the resources, ``e ~ N(0,
s_e^2)`` for each block. In logarithms, because a kernel size may cost ten times its neighbour's.
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

RIDGE = 1e-3
HYPERS = (
    Prior("shares", 0.2), Prior("shape", 0.2), Prior("each", 0.04),
    *(Prior(f"length {group}", 2.0, 0.6) for group in SHAPE_GROUPS),
)  # fmt: skip
FITTED = 250
"""Hyper-parameters are found on at most so many blocks; the posterior uses all."""

WILD = 4.0
"""Leave-one-out errors over so many standard deviations are told."""


MEDIANS = np.array([prior.median for prior in HYPERS])
SMOOTH = 4.0
"""Length scale of all groups where no block was timed, so that nothing says what it is: that of
devices whose blocks were timed is 1.5 to 7."""
SUPPOSED = np.array([1.0, 0.25, HYPERS[2].median, *(SMOOTH for _ in SHAPE_GROUPS)])
"""`HYPERS` where most blocks of the networks were never timed: resources may take what they will,
and like blocks are as alike as on devices whose blocks were timed (shape 0.2 to 0.4)."""


class BlockPrior(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Weights of the resources and hyper-parameters; with the timings it is the posterior."""

    weights: tuple[float, ...]
    """ms for each unit of `RESOURCES`, then for each ms on a source device."""
    shares: float = HYPERS[0].median
    shape: float = HYPERS[1].median
    each: float = HYPERS[2].median
    lengths: tuple[float, ...] = tuple(prior.median for prior in HYPERS[3:])
    wild: tuple[str, ...] = ()
    """Keys of blocks whose timing disagrees with all others: widened, not dropped."""

    @property
    def shape_lengths(self) -> Floats:
        """Those of all `SHAPE_GROUPS`; a model of four, made before hidden widths had their own,
        has that of the channels for them."""
        return np.array([*self.lengths, self.lengths[0]][: len(SHAPE_GROUPS)])


class Timed(NamedTuple):
    """Blocks with a time of their own, free of the runtime's call."""

    blocks: list[Block]
    ms: Floats
    error: Floats
    """Relative standard error."""


class Rows(NamedTuple):
    """Costs of blocks: ``ms [B]`` and the covariance ``[B, B]`` of their relative errors."""

    ms: Floats
    covariance: Floats


def amounts_of(blocks: Sequence[Block], source_ms: Sequence[Floats]) -> Floats:
    """Return ``[B, J]``: resources, then the latency on each source device."""
    return np.column_stack([resources(blocks), *source_ms])


class Left(NamedTuple):
    """What networks say of their blocks that were never timed."""

    amounts: Floats
    """``[N, J]``: of those blocks."""
    ms: Floats
    """What the timed blocks and the call leave of the network's latency."""
    total_ms: Floats
    """The network's latency, of which the error is a share."""


def fit_prior(timed: Timed, amounts: Floats, left: Left | None = None) -> BlockPrior:
    """Find weights and hyper-parameters from the timings of single blocks.

    Where networks left something, most of their blocks were never timed. Then the weights are to
    fit that, too (the timed blocks may not have what the others take), and the hyper-parameters are
    `SUPPOSED`, as if none was timed.
    """
    if left is None:
        weights = weigh(amounts, timed.ms)
    else:
        both, ms = np.vstack([amounts, left.amounts]), np.append(timed.ms, left.ms)
        weights = weigh(both, ms, np.append(timed.ms, left.total_ms))
    chosen = np.linspace(0, len(timed.ms) - 1, min(len(timed.ms), FITTED)).astype(int)
    order = np.argsort(timed.ms)[chosen]
    part = shares(amounts[order], weights)
    coordinates, groups = shapes([timed.blocks[int(place)] for place in order])
    residual = np.log(timed.ms[order] / (amounts[order] @ weights))
    gram, noise = part @ part.T, np.diag(timed.error[order] ** 2)
    own = np.eye(len(order))

    def covariance(hypers: Floats) -> tuple[Floats, list[Floats]]:
        shape, slopes = matern52(coordinates, coordinates, hypers[3:], groups)
        terms = [hypers[0] ** 2 * gram, hypers[1] ** 2 * shape, hypers[2] ** 2 * own]
        longer = [hypers[1] ** 2 * slope for slope in slopes]
        return np.sum(terms, axis=0) + noise, [*(2 * term for term in terms), *longer]

    if left is not None:
        best = SUPPOSED
    else:
        best = fit_scales(residual, covariance, HYPERS).best if len(order) > 2 else MEDIANS
    s_w, s_f, s_e, *lengths = best.tolist()
    error, variance = leave_one_out(residual, covariance(best)[0])
    odd = np.abs(error) > WILD * np.sqrt(variance)
    wild = tuple(timed.blocks[int(place)].key for place in order[odd])
    return BlockPrior(tuple(weights.tolist()), s_w, s_f, s_e, tuple(lengths), wild)


def untimed_prior(counts: Floats, amounts: Floats, ms: Floats) -> BlockPrior:
    """Return the prior where only whole networks ``counts [N, B]`` were measured: ``ms [N]``."""
    weights = weigh(counts @ amounts, ms)
    return BlockPrior(tuple(weights.tolist()), lengths=(SMOOTH,) * len(SHAPE_GROUPS))


def weigh(amounts: Floats, ms: Floats, unit_ms: Floats | None = None) -> Floats:
    """Return weights >= 0 with ``amounts @ weights`` near ``ms``, by errors relative to ``unit_ms``
    (``None``: to ``ms``)."""
    unit_ms = ms if unit_ms is None else unit_ms
    relative = amounts / unit_ms[:, None]
    typical = np.maximum(np.abs(relative).mean(axis=0), 1e-300)
    rows, columns = relative.shape
    design = np.vstack([relative / typical, np.sqrt(RIDGE * rows) * np.eye(columns)])
    target = np.concatenate([ms / unit_ms, np.zeros(columns)])
    solved: Floats = cast(Any, optimize).nnls(design, target)[0]
    return solved / typical


def kernel(
    prior: BlockPrior, blocks: Sequence[Block], amounts: Floats, others: int | None = None
) -> Floats:
    """Return the prior covariance of the logarithms, ``[B, B]`` or ``[B, others]``.

    With ``others`` the second axis holds the first ``others`` blocks only.
    """
    part = shares(amounts, np.array(prior.weights))
    coordinates, groups = shapes(blocks)
    end = len(blocks) if others is None else others
    shape, _ = matern52(coordinates, coordinates[:end], prior.shape_lengths, groups)
    own = np.eye(len(blocks))[:, :end]
    return prior.shares**2 * (part @ part[:end].T) + prior.shape**2 * shape + prior.each**2 * own


def rows(prior: BlockPrior, timed: Timed, asked: Sequence[Block], amounts: Floats) -> Rows:
    """Return the cost of every block of ``asked``, given the timings.

    ``amounts`` are those of the timed blocks, then of ``asked``. A timed block keeps its time, with
    the posterior's variance; the others have the posterior's median.
    """
    known = len(timed.blocks)
    mean_ms = np.maximum(amounts @ np.array(prior.weights), 1e-9)
    if known == 0:
        return Rows(mean_ms, np.zeros((len(asked), len(asked))))
    place = {block: number for number, block in enumerate(timed.blocks)}
    fresh = [number for number, block in enumerate(asked) if block not in place]
    blocks = [*timed.blocks, *(asked[number] for number in fresh)]
    chosen = [*range(known), *(known + number for number in fresh)]
    whole = kernel(prior, blocks, amounts[chosen])
    noise = timed.error**2
    factor, _ = factorise(whole[:known, :known] + np.diag(noise))
    residual = np.log(timed.ms / mean_ms[:known])
    gain = solve(factor, whole[:known]).T
    logs = np.log(mean_ms[chosen]) + gain @ residual
    covariance = whole - gain @ whole[:known]
    _widen_wild(prior, timed, factor, residual, covariance)
    ms = np.exp(logs)
    ms[:known] = timed.ms
    new = {number: known + rank for rank, number in enumerate(fresh)}
    taken = [place.get(block, new.get(number, 0)) for number, block in enumerate(asked)]
    return Rows(ms[taken], covariance[np.ix_(taken, taken)])


def _widen_wild(
    prior: BlockPrior, timed: Timed, factor: Floats, residual: Floats, covariance: Floats
) -> None:
    """Let a wild timing be overruled: its variance covers what the other blocks say of it."""
    if not prior.wild:
        return
    inverse = solve(factor, np.eye(len(residual)))
    error = (inverse @ residual) / np.diag(inverse)
    for number, block in enumerate(timed.blocks):
        if block.key in prior.wild:
            covariance[number, number] += float(error[number]) ** 2


Index = NDArray[np.intp]
