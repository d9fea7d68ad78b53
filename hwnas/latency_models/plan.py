"""What to measure next: the networks that lower the uncertainty where it matters.

Active learning by expected reduction of variance (Cohn, Ghahramani and Jordan 1996, section 3): the
posterior covariance of a Gaussian process does not depend on the values measured, so the gain of a
measurement at the target networks (those near the budget) is known before it is taken.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from hwnas.architecture import Block
from hwnas.block import FREE_OPS
from hwnas.latency_models.features import Floats
from hwnas.latency_models.model import LatencyModel

Network = Sequence[Block]


def next_networks(
    model: LatencyModel, pool: Sequence[Network], targets: Sequence[Network], count: int
) -> list[int]:
    """Return which of ``pool`` to measure next, best first, for the sake of ``targets``.

    Each is chosen given the ones before it, so two alike are not both chosen.
    """
    joint, means = _covariance(model, [*pool, *targets])
    split = len(pool)
    within, across = joint[:split, :split], joint[:split, split:]
    weights = 1 / means[split:] ** 2  # relative errors of the targets count alike
    noise = (_noise(model) * means[:split]) ** 2
    chosen: list[int] = []
    for _ in range(min(count, split)):
        variance = np.diag(within) + noise
        gain = (across**2 @ weights) / variance
        gain[chosen] = -1.0
        best = int(np.argmax(gain))
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


def _covariance(model: LatencyModel, networks: Sequence[Network]) -> tuple[Floats, Floats]:
    """Return the posterior covariance ``[N, N]`` of networks and their means."""
    blocks = list(dict.fromkeys(block for one in networks for block in one))
    blocks = [block for block in blocks if block.op not in FREE_OPS]
    found = model.posterior_over(blocks)
    place = {block: number for number, block in enumerate(blocks)}
    counts = np.zeros((len(networks), len(blocks) + 1))
    counts[:, -1] = 1.0
    for row, one in zip(counts, networks, strict=True):
        for block in one:
            if block in place:
                row[place[block]] += 1
    means = counts @ np.append(found.ms, found.overhead_ms)
    return counts @ found.covariance @ counts.T, means


def _noise(model: LatencyModel) -> float:
    """Relative standard deviation that measuring one more network will have."""
    errors = [one.standard_error for one in model.networks]
    return max(0.01, float(np.median(errors)) if errors else 0.0)
