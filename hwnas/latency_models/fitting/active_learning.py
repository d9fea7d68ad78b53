"""What to measure next: blocks and networks that lower the uncertainty where it matters.

Active learning by expected reduction of variance (Cohn, Ghahramani and Jordan 1996, section 3): the
covariance of a Gaussian process does not depend on the values measured, so the gain of a
measurement at the target networks (those near the budget) is known before it is taken.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from hwnas.architecture.architecture import Block
from hwnas.architecture.block import FREE_OPS
from hwnas.latency_models.features import Floats, shapes, unsupported
from hwnas.latency_models.fitting.block_prior import BlockPrior
from hwnas.latency_models.fitting.design_matrix import field_over, seen_over
from hwnas.latency_models.fitting.gaussian import matern52
from hwnas.latency_models.fitting.network_correction import alone_covariance
from hwnas.latency_models.model import LatencyModel

Network = Sequence[Block]

UNTIMED = 0.01
"""Relative error that is supposed of a block's time before any was measured."""


def covering(blocks: Sequence[Block], least: int) -> list[int]:
    """Return which of ``blocks`` to time first, at least ``least``, and one of every kind.

    Those that tell most of all, by the covariance that blocks have before any is timed; first those
    with most kinds (`unsupported`) that none before has.
    """
    prior = BlockPrior(())
    coordinates, groups = shapes(blocks)
    like, _ = matern52(coordinates, coordinates, prior.shape_lengths, groups)
    within = prior.shape**2 * like + prior.each**2 * np.eye(len(blocks))
    chosen: list[int] = []
    while len(chosen) < len(blocks):
        known = [blocks[place] for place in chosen]
        kinds = np.array([len(unsupported([block], known)) for block in blocks])
        if len(chosen) >= least and not kinds.any():
            break
        variance = np.diag(within) + UNTIMED**2
        gain = (within**2).sum(axis=1) / variance
        gain[chosen] = -1.0
        best = int(np.argmax(np.where(kinds == kinds.max(), gain, -1.0)))
        chosen.append(best)
        within = within - np.outer(within[:, best], within[best]) / variance[best]
    return chosen


def next_networks(
    model: LatencyModel, pool: Sequence[Network], targets: Sequence[Network], count: int
) -> list[int]:
    """Return which of ``pool`` to measure next, best first, for the sake of ``targets``.

    Each is chosen given the ones before it, so two alike are not both chosen.
    """
    return next_models(model, (), pool, targets, count)


def next_models(
    model: LatencyModel,
    blocks: Sequence[Block],
    pool: Sequence[Network],
    targets: Sequence[Network],
    count: int,
    seconds: Sequence[float] | None = None,
) -> list[int]:
    """Return what to measure next, at most ``count``, best first: places in ``[*blocks, *pool]``.

    What lowers the targets' variance most for the ``seconds`` that each takes (``None``: as long).

    A block's time alone says its part of the cost that the prior rows have, not what it deviates by
    inside networks; a network says the sum of all it has.
    """
    joint, means = _covariance(model, [*pool, *targets], blocks)
    split = len(blocks) + len(pool)
    within, across = joint[:split, :split], joint[:split, split:]
    weights = 1 / means[split:] ** 2  # relative errors of the targets count alike
    noise = (_noise(model) * means[:split]) ** 2
    cost = np.ones(split) if seconds is None else np.array(seconds)
    chosen: list[int] = []
    for _ in range(min(count, split)):
        variance = np.diag(within) + noise
        gain = (across**2 @ weights) / variance / cost
        gain[chosen] = -1.0
        best = int(np.argmax(gain))
        if gain[best] <= 0:
            break  # nothing else tells anything
        chosen.append(best)
        across = across - np.outer(within[:, best], across[best]) / variance[best]
        within = within - np.outer(within[:, best], within[best]) / variance[best]
    return chosen


def half_width(model: LatencyModel, targets: Sequence[Network], share: float = 0.9) -> float:
    """Return the relative half-width of the targets' interval: the median over them."""
    found = model.predict(targets)
    low, high = found.interval_ms(share)
    return float(np.median((high - low) / 2 / found.mean_ms))


def further_networks(
    model: LatencyModel,
    pool: Sequence[Network],
    targets: Sequence[Network],
    goal: float,
    most: int = 100,
) -> int | None:
    """Say how many of ``pool`` to measure until the targets' 90 % interval is within ``goal``.

    ``goal`` is a relative half-width. ``None``: even ``most`` more networks are not expected to be
    enough (each block's own deviation and the noise of measuring remain).
    """
    joint, means = _covariance(model, [*pool, *targets])
    split = len(pool)
    noise = _noise(model)
    order = next_networks(model, pool, targets, min(most, split))
    for count in range(len(order) + 1):
        taken = order[:count]
        seen = joint[np.ix_(taken, taken)] + np.diag((noise * means[taken]) ** 2)
        cross = joint[split:, taken]
        left = np.diag(joint)[split:] - np.einsum("tn,nt->t", cross, np.linalg.solve(seen, cross.T))
        width = 1.645 * np.sqrt(np.maximum(left, 0) + (noise * means[split:]) ** 2) / means[split:]
        if float(np.median(width)) <= goal:
            return count
    return None


def _covariance(
    model: LatencyModel, networks: Sequence[Network], alone: Sequence[Block] = ()
) -> tuple[Floats, Floats]:
    """Return the posterior covariance ``[A + N, A + N]`` of times alone and of networks, in ms^2,
    and their means."""
    needed = dict.fromkeys([*alone, *(block for one in networks for block in one)])
    blocks = [block for block in needed if block.op not in FREE_OPS]
    found = model.posterior_over(blocks)
    place = {block: number for number, block in enumerate(blocks)}
    counts = np.zeros((len(networks), len(blocks) + 1))
    counts[:, -1] = 1.0
    for row, one in zip(counts, networks, strict=True):
        for block in one:
            if block in place:
                row[place[block]] += 1
    means = counts @ np.append(found.ms, found.overhead_ms)
    whole = counts @ found.covariance @ counts.T
    if not alone:
        return whole, means
    timed = [place[block] for block in alone]
    costs, times = _alone_covariance(model, blocks)
    across = counts @ costs[:, timed]
    joint = np.block([[times[np.ix_(timed, timed)], across.T], [across, whole]])
    return joint, np.append(found.ms[timed], means)


def _alone_covariance(model: LatencyModel, blocks: Sequence[Block]) -> tuple[Floats, Floats]:
    """Return `alone_covariance` of ``blocks``, in their order."""
    blocks = [Block.from_key(block.key) for block in blocks]
    field = field_over(model.observations, model.prior, model.sources, blocks)
    place = {block: number for number, block in enumerate(field.blocks)}
    taken = [place[block] for block in blocks]
    if model.correction is None:
        times = field.rows.covariance * np.outer(field.rows.ms, field.rows.ms)
        costs = np.vstack([times, np.zeros(len(times))])
    else:
        seen = seen_over(model.observations, field.blocks)
        costs, times = alone_covariance(model.correction, seen, field)
    return costs[np.ix_([*taken, len(field.blocks)], taken)], times[np.ix_(taken, taken)]


def _noise(model: LatencyModel) -> float:
    """Relative standard deviation that measuring one more network will have."""
    errors = [one.standard_error for one in model.networks]
    return max(0.01, float(np.median(errors)) if errors else 0.0)
