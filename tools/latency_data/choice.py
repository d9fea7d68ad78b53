"""Which networks to measure: at random, or the ends of the space and what is least certain."""

from __future__ import annotations

import numpy as np

from hwnas.latency_models.features import shares
from hwnas.latency_models.gaussian import matern52
from latency_data.bench import Bench, Floats, Index, Items

CANDIDATES = 400
SHAPE, EACH, NOISE, LENGTH = 0.1, 0.04, 0.03, 2.0
"""Relative standard deviations before anything was measured; length scales of the kernel."""


def at_random(bench: Bench, count: int, seed: int) -> Index:
    return np.random.default_rng(seed).permutation(bench.rows)[:count]


def chosen(bench: Bench, count: int, seed: int) -> Index:
    """Choose among random candidates, by features only: no latency is looked at.

    A quarter of the networks is from the eighth with the fewest MACs and a quarter from the one
    with the most; each next one, there and in the rest, is what the chosen ones say least of.
    """
    rng = np.random.default_rng(seed)
    pool = rng.permutation(bench.rows)[: max(CANDIDATES, 2 * count)]
    covariance = np.mean([_covariance(items, pool) for items in bench.items], axis=0)
    order = np.argsort(bench.macs[pool], kind="stable")
    eighth = max(len(pool) // 8, count // 4)
    ends = (order[:eighth], order[-eighth:])
    taken: list[int] = []
    left = covariance.copy()
    for number in range(count):
        allowed = ends[number % 2] if number < 2 * (count // 4) else np.arange(len(pool))
        free = np.setdiff1d(allowed, taken)
        best = int(free[np.argmax(np.diag(left)[free])])
        taken.append(best)
        left -= np.outer(left[best], left[best]) / (left[best, best] + NOISE**2)
    return pool[taken]


def _covariance(items: Items, pool: Index) -> Floats:
    """Return the prior covariance of relative latencies: every resource has the same share."""
    counts = items.counts[pool]
    typical = (counts @ items.amounts).mean(axis=0)
    weights = np.divide(1.0, typical, out=np.zeros_like(typical), where=typical > 0)
    cost = items.amounts @ weights
    scaled = counts * cost
    scaled /= scaled.sum(axis=1, keepdims=True)
    spread = scaled @ shares(items.amounts, weights)
    lengths = np.full(4, LENGTH)
    used = np.flatnonzero(scaled.any(axis=0))
    at, scaled = items.coordinates[used], scaled[:, used]
    shape, _ = matern52(at, at, lengths, items.groups)
    return spread @ spread.T + SHAPE**2 * scaled @ shape @ scaled.T + EACH**2 * scaled @ scaled.T
