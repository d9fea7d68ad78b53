"""Blocks of a space, and networks of it from the fastest to the slowest."""

from __future__ import annotations

from collections.abc import Collection
from random import Random

import numpy as np

from hwnas.architecture.architecture import Architecture, Block, Genotype
from hwnas.latency_models.cost import CostTable, cost_table
from hwnas.latency_models.model import LatencyModel
from hwnas.profiling.bench import block_keys
from hwnas.search.knapsack import window_samples
from hwnas.spaces.dependent import as_dependent
from hwnas.spaces.space import SearchSpace

NUM_TARGETS = 24
"""Number of networks by whose intervals the precision is judged."""
POOL_SIZE = 200
"""Random networks to select from."""


def distinct_blocks(space: SearchSpace) -> list[Block]:
    """Return the distinct blocks that networks of ``space`` may have."""
    blocks = [
        *space.fixed,
        *(site.block for site in space.sites() if not site.block.is_free),
    ]
    return list(dict.fromkeys(blocks))


def random_networks(
    space: SearchSpace, rng: Random, measured: Collection[tuple[str, ...]]
) -> list[Architecture]:
    """Return distinct networks of `POOL_SIZE` random ones, without those in ``measured``
    (`block_keys`). Of a small space none may be left."""
    drawn = [space.architecture(space.random(rng)) for _ in range(POOL_SIZE)]
    distinct = {block_keys(network): network for network in drawn}
    return [network for keys, network in distinct.items() if keys not in measured]


def spread_networks(space: SearchSpace, costs: CostTable, count: int, seed: int) -> list[Genotype]:
    """Return networks spread evenly over the logarithm of the latency, from end to end.

    If decisions depend on each other, so that ``costs`` cannot describe the space, they are spread
    over the logarithm of the MACs.
    """
    if (dependent := as_dependent(space)) is not None:
        return dependent.sample_sizes(count, Random(seed))
    rng = np.random.default_rng(seed)
    level = [[0.0] * len(row) for row in costs.mean_ms]
    targets_ms = np.geomspace(costs.smallest_ms * 1.05, costs.largest_ms, count)
    drawn = (window_samples(level, costs, 0.9 * t, t, 2, rng)[-1] for t in targets_ms.tolist())
    return [Genotype(space.name, choices) for choices in drawn]


def predicted_costs(model: LatencyModel, space: SearchSpace) -> CostTable:
    """Return the model's costs of a space, with predictions for kinds of blocks it never saw."""
    blocks = distinct_blocks(space)
    costs = dict(zip(blocks, model.predicted_ms(blocks).tolist(), strict=True))
    return cost_table(
        space,
        lambda block: 0.0 if block.is_free else costs[block],
        model.overhead_ms,
    )


def target_networks(model: LatencyModel, space: SearchSpace, seed: int) -> list[tuple[Block, ...]]:
    """Return the blocks of networks from the fastest to the slowest, as the model predicts."""
    genotypes = spread_networks(space, predicted_costs(model, space), NUM_TARGETS, seed + 1)
    return [space.architecture(genotype).blocks for genotype in genotypes]
