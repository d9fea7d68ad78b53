"""Choice of the networks to measure: random ones, or the ends of the space and uncertain ones."""

from __future__ import annotations

import numpy as np

from hwnas.latency_models.features import SHAPE_GROUPS, shares
from hwnas.latency_models.fitting.gaussian import matern52
from tools.lib.latency.bench import Bench, Floats, Index, Items

MIN_POOL = 400
SHAPE_STD, ITEM_STD, NOISE_STD, LENGTH = 0.1, 0.04, 0.03, 2.0
"""Prior relative standard deviations; length scale of the kernel."""


def random_networks(bench: Bench, count: int, seed: int) -> Index:
    return np.random.default_rng(seed).permutation(bench.rows)[:count]


def informative_networks(bench: Bench, count: int, seed: int) -> Index:
    """Choose networks from a random pool by their features, without any latency.

    A quarter of the networks is from the eighth with the fewest MACs and a quarter from the eighth
    with the most. Each next one is the network with the largest variance given the chosen ones.
    """
    rng = np.random.default_rng(seed)
    pool = rng.permutation(bench.rows)[: max(MIN_POOL, 2 * count)]
    covariance = np.mean([_covariance(items, pool) for items in bench.items], axis=0)
    order = np.argsort(bench.macs[pool], kind="stable")
    eighth = max(len(pool) // 8, count // 4)
    ends = (order[:eighth], order[-eighth:])
    chosen: list[int] = []
    variance, free = np.diag(covariance).copy(), np.ones(len(pool), dtype=bool)
    factor = np.zeros((len(pool), count))  # pivoted Cholesky factor, one column per network
    for number in range(count):
        allowed = ends[number % 2] if number < 2 * (count // 4) else np.arange(len(pool))
        allowed = allowed[free[allowed]]
        best = int(allowed[np.argmax(variance[allowed])])
        chosen.append(best)
        free[best] = False
        left = covariance[best] - factor[:, :number] @ factor[best, :number]
        factor[:, number] = left / np.sqrt(variance[best] + NOISE_STD**2)
        variance -= factor[:, number] ** 2
    return pool[chosen]


def _covariance(items: Items, pool: Index) -> Floats:
    """Return the prior covariance of relative latencies; every resource has the same share."""
    counts = items.counts[pool]
    typical = (counts @ items.amounts).mean(axis=0)
    weights = np.divide(1.0, typical, out=np.zeros_like(typical), where=typical > 0)
    cost = items.amounts @ weights
    scaled = counts * cost
    scaled /= scaled.sum(axis=1, keepdims=True)
    spread = scaled @ shares(items.amounts, weights)
    lengths = np.full(len(SHAPE_GROUPS), LENGTH)
    used = np.flatnonzero(scaled.any(axis=0))
    at, scaled = items.coordinates[used], scaled[:, used]
    shape, _ = matern52(at, at, lengths, items.groups)
    return (
        spread @ spread.T
        + SHAPE_STD**2 * scaled @ shape @ scaled.T
        + ITEM_STD**2 * scaled @ scaled.T
    )
