"""Members of a trained network that may keep a budget, the most promising of each resolution.

Cuts are assumed to be additive: the divergence of a member is approximately the sum of the
divergences of its single cuts. Then the best member of a resolution within a window of latencies is
a knapsack (`hwnas.search.knapsack`). The divergence of combined cuts is measured afterwards, for
the members of this list (`hwnas.search.elastic.divergence.Divergence.of`).
"""

from __future__ import annotations

from collections.abc import Sequence
from statistics import median

import numpy as np

from hwnas.architecture.architecture import Genotype
from hwnas.architecture.block import Block
from hwnas.latency_models.cost import CostTable, NetworkCosts
from hwnas.search.knapsack import window_samples
from hwnas.spaces.elastic.space import ElasticSpace

NOISE_SHARE = 0.25
"""Scale of the noise that makes members differ, as a share of the median increment."""


def shortlist(
    space: ElasticSpace,
    costs: NetworkCosts,
    increments: Sequence[Sequence[float]],
    low_ms: float,
    high_ms: float,
    count: int,
    seed: int,
) -> list[Genotype]:
    """Return up to ``count`` members of each resolution with a latency in ``[low_ms, high_ms]``.

    If the whole network at a resolution is faster than ``low_ms``, it is returned instead, and
    lower resolutions are left out, as they would only lose accuracy.
    """
    scores, rng = _scores(increments), np.random.default_rng(seed)
    members: list[Genotype] = []
    for size in range(len(space.sizes)):
        table = resolution_costs(space, costs, size)
        if table.network_ms((0,) * len(space.elastic)) <= high_ms:
            members.append(space.genotype(size))
            break
        if space.elastic and table.smallest_ms <= high_ms:
            drawn = window_samples(scores, table, low_ms, high_ms, count, rng)
            members += [space.genotype(size, choices) for choices in drawn]
    return members


def random_members(
    space: ElasticSpace,
    costs: NetworkCosts,
    low_ms: float,
    high_ms: float,
    count: int,
    seed: int,
) -> list[Genotype]:
    """Return ``count`` random members in the window, whatever their divergence."""
    level = [[0.0] * len(space.cuts[place]) for place in space.elastic]
    per_size = -(-count // len(space.sizes)) + 1
    rng = np.random.default_rng(seed)
    members: list[Genotype] = []
    for size in range(len(space.sizes)):
        table = resolution_costs(space, costs, size)
        if table.smallest_ms <= high_ms and table.largest_ms >= low_ms:
            # the first is no random draw but the solution for equal scores
            drawn = window_samples(level, table, low_ms, high_ms, per_size + 1, rng)
            members += [space.genotype(size, choices) for choices in drawn[1:] or drawn]
    return [members[number] for number in rng.permutation(len(members))[:count].tolist()]


def resolution_costs(space: ElasticSpace, costs: NetworkCosts, size: int) -> CostTable:
    """Return the costs of all members at the resolution of index ``size``."""
    rows: list[list[Block]] = []
    fixed: list[Block] = []
    for place, cuts in enumerate(space.cuts):
        blocks = [space.block(size, place, candidate) for candidate in range(len(cuts))]
        if len(blocks) > 1:
            rows.append(blocks)
        else:
            fixed += blocks
    return costs.table(rows, fixed)


def _scores(increments: Sequence[Sequence[float]]) -> list[list[float]]:
    """Return scores for the knapsack, to which Gumbel noise of unit scale is added."""
    positive = [increment for row in increments for increment in row if increment > 0]
    scale = NOISE_SHARE * median(positive) if positive else 1.0
    return [[-increment / scale for increment in row] for row in increments]
