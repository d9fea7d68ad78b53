"""Which blocks and networks to measure next, by the expected reduction of variance.

Active learning as in Cohn, Ghahramani and Jordan (1996), section 3: the covariance of a Gaussian
process does not depend on the measured values, so the gain of a measurement for the target networks
(those near the budget) is known before it is taken.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from hwnas.architecture.architecture import Block
from hwnas.latency_models.features import Floats, shapes, unsupported
from hwnas.latency_models.fitting.block_prior import BlockPrior
from hwnas.latency_models.fitting.design_matrix import block_grid, network_data
from hwnas.latency_models.fitting.gaussian import matern52
from hwnas.latency_models.fitting.network_correction import isolated_covariance
from hwnas.latency_models.model import LatencyModel

Network = Sequence[Block]

EXPECTED_TIMING_ERROR = 0.01
"""Relative error expected of a block's time before any was measured."""

MIN_NETWORK_NOISE = 0.01
"""Least relative noise that is expected of a network's measurement."""


def select_initial_blocks(blocks: Sequence[Block], count: int) -> list[int]:
    """Return the indices of at least ``count`` of ``blocks`` to time first, with every kind of
    block.

    They greedily minimise the total prior variance, beginning with blocks of unseen kinds
    (`unsupported`).
    """
    prior = BlockPrior(())
    coordinates, groups = shapes(blocks)
    similarity, _ = matern52(coordinates, coordinates, np.array(prior.lengths), groups)
    within = prior.shape**2 * similarity + prior.each**2 * np.eye(len(blocks))
    chosen: list[int] = []
    while len(chosen) < len(blocks):
        known = [blocks[place] for place in chosen]
        unseen = np.array([len(unsupported([block], known)) for block in blocks])
        if len(chosen) >= count and not unseen.any():
            break
        variance = np.diag(within) + EXPECTED_TIMING_ERROR**2
        gain = (within**2).sum(axis=1) / variance
        gain[chosen] = -1.0
        best = int(np.argmax(np.where(unseen == unseen.max(), gain, -1.0)))
        chosen.append(best)
        within = within - np.outer(within[:, best], within[best]) / variance[best]
    return chosen


def select_networks(
    model: LatencyModel, pool: Sequence[Network], targets: Sequence[Network], count: int
) -> list[int]:
    """Return the indices of the networks of ``pool`` that most reduce the variance of ``targets``,
    best first.

    Each is chosen given the ones before it, so of two similar networks only the first is chosen
    early.
    """
    return select_measurements(model, (), pool, targets, count)


def select_measurements(
    model: LatencyModel,
    blocks: Sequence[Block],
    pool: Sequence[Network],
    targets: Sequence[Network],
    count: int,
    seconds: Sequence[float] | None = None,
) -> list[int]:
    """Return what to measure next, best first: at most ``count`` indices into ``[*blocks, *pool]``.

    The best one lowers the variance of ``targets`` most for the ``seconds`` that it takes
    (``None``: all take the same). Timing an isolated block informs about its prior cost, not about
    its deviation inside networks; a network informs about the sum of both.
    """
    joint, means = _joint_covariance(model, [*pool, *targets], blocks)
    split = len(blocks) + len(pool)
    within, across = joint[:split, :split], joint[:split, split:]
    weights = 1 / means[split:] ** 2  # relative errors of the targets count equally
    noise = (_expected_noise(model) * means[:split]) ** 2
    cost = np.ones(split) if seconds is None else np.array(seconds)
    chosen: list[int] = []
    for _ in range(min(count, split)):
        variance = np.diag(within) + noise
        gain = (across**2 @ weights) / variance / cost
        gain[chosen] = -1.0
        best = int(np.argmax(gain))
        if gain[best] <= 0:
            break  # no other measurement lowers the variance
        chosen.append(best)
        across = across - np.outer(within[:, best], across[best]) / variance[best]
        within = within - np.outer(within[:, best], within[best]) / variance[best]
    return chosen


def median_half_width(
    model: LatencyModel, targets: Sequence[Network], probability: float = 0.9
) -> float:
    """Return the relative half-width of the targets' intervals: the median over the targets."""
    predicted = model.predict(targets)
    low, high = predicted.interval_ms(probability)
    return float(np.median((high - low) / 2 / predicted.mean_ms))


def count_further_networks(
    model: LatencyModel,
    pool: Sequence[Network],
    targets: Sequence[Network],
    goal: float,
    max_count: int = 100,
) -> int | None:
    """Return how many of ``pool`` to measure until the targets' 90 % intervals are narrow enough.

    ``goal`` is their relative half-width (median). ``None``: not even ``max_count`` more networks
    are expected to be enough, as each block's own deviation and the measurement noise remain.
    """
    joint, means = _joint_covariance(model, [*pool, *targets])
    split = len(pool)
    noise = _expected_noise(model)
    order = select_networks(model, pool, targets, min(max_count, split))
    for count in range(len(order) + 1):
        chosen = order[:count]
        observed = joint[np.ix_(chosen, chosen)] + np.diag((noise * means[chosen]) ** 2)
        cross = joint[split:, chosen]
        explained = np.einsum("tn,nt->t", cross, np.linalg.solve(observed, cross.T))
        variance = np.maximum(np.diag(joint)[split:] - explained, 0)
        width = 1.645 * np.sqrt(variance + (noise * means[split:]) ** 2) / means[split:]
        if float(np.median(width)) <= goal:
            return count
    return None


def _joint_covariance(
    model: LatencyModel, networks: Sequence[Network], isolated: Sequence[Block] = ()
) -> tuple[Floats, Floats]:
    """Return the posterior covariance ``[I + N, I + N]`` in ms^2 of the times of ``isolated``
    blocks and of networks, and their means ``[I + N]``."""
    needed = dict.fromkeys([*isolated, *(block for network in networks for block in network)])
    blocks = [block for block in needed if not block.is_free]
    costs = model.posterior_over(blocks)
    place = {block: number for number, block in enumerate(blocks)}
    counts = np.zeros((len(networks), len(blocks) + 1))
    counts[:, -1] = 1.0
    for row, network in zip(counts, networks, strict=True):
        for block in network:
            if block in place:
                row[place[block]] += 1
    means = counts @ np.append(costs.ms, costs.overhead_ms)
    of_networks = counts @ costs.covariance @ counts.T
    if not isolated:
        return of_networks, means
    timed = [place[block] for block in isolated]
    cost_covariance, time_covariance = _isolated_covariance(model, blocks)
    across = counts @ cost_covariance[:, timed]
    joint = np.block([[time_covariance[np.ix_(timed, timed)], across.T], [across, of_networks]])
    return joint, np.append(costs.ms[timed], means)


def _isolated_covariance(model: LatencyModel, blocks: Sequence[Block]) -> tuple[Floats, Floats]:
    """Return `isolated_covariance` of ``blocks``, in their order."""
    grid = block_grid(model.observations, model.prior, model.sources, blocks)
    place = {block: number for number, block in enumerate(grid.blocks)}
    order = [place[block] for block in blocks]
    if model.correction is None:
        times = grid.costs.covariance * np.outer(grid.costs.ms, grid.costs.ms)
        costs = np.vstack([times, np.zeros(len(times))])
    else:
        data = network_data(model.observations, grid.blocks)
        costs, times = isolated_covariance(model.correction, data, grid)
    return costs[np.ix_([*order, len(grid.blocks)], order)], times[np.ix_(order, order)]


def _expected_noise(model: LatencyModel) -> float:
    """Return the relative standard deviation of measuring one more network."""
    errors = [network.standard_error for network in model.networks]
    return max(MIN_NETWORK_NOISE, float(np.median(errors)) if errors else 0.0)
