"""Choices of the networks that a model of this machine is fitted to, none by its latency.

Each choice is from a random part of the pool, so that choices differ and their mean is more
reliable than a single one.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np

from hwnas.architecture.architecture import Architecture, Block
from hwnas.latency_models.fitting.active_learning import select_networks
from hwnas.latency_models.fitting.fit import fit_model
from hwnas.latency_models.model import LatencyModel
from hwnas.latency_models.observation import Observation
from hwnas.profiling.time_limited import INITIAL_NETWORKS, Candidates, select_round

POOL_SHARE = 0.75
"""Share of the pool that is available to a choice."""

Seen = dict[tuple[Block, ...], Observation]
"""Observations by their blocks."""

Choose = Callable[[int], list[Architecture]]
"""A function that chooses networks by a seed."""


def fit(observations: Sequence[Observation]) -> LatencyModel:
    return fit_model("here", observations, source="evaluation", validate=False)


def with_blocks(
    line: Sequence[Architecture], pool: Sequence[Architecture], seen: Seen, count: int
) -> Choose:
    """Return choices of ``count``: half of ``line`` from end to end, half by the model.

    ``line`` are networks in the order of their latency.
    """
    alone = [observation for observation in seen.values() if observation.scope == "isolated"]

    def choose(seed: int) -> list[Architecture]:
        chosen, part = spread(line, count // 2), random_part(pool, seed)
        model = fit([*alone, *(seen[network.compute_blocks] for network in chosen)])
        return [*chosen, *_most_informative(model, part, line, count - len(chosen))]

    return choose


def without_blocks(
    line: Sequence[Architecture],
    pool: Sequence[Architecture],
    targets: Sequence[Architecture],
    seen: Seen,
    count: int,
) -> Choose:
    """Return choices of ``count`` without isolated blocks: three of ``line``, then by the model.

    A model of a few networks is uncertain, so it is fitted again after every few chosen ones;
    ``targets`` are the networks that it should predict well.
    """

    def choose(seed: int) -> list[Architecture]:
        chosen, part = spread(line, 3), random_part(pool, seed)
        while len(chosen) < count:
            model = fit([seen[network.compute_blocks] for network in chosen])
            left = [network for network in part if network not in chosen]
            chosen += _most_informative(model, left, targets, min(count // 5, count - len(chosen)))
        return chosen

    return choose


def limited(
    blocks: Sequence[Block],
    line: Sequence[Architecture],
    pool: Sequence[Architecture],
    targets: Sequence[Architecture],
    seen: Seen,
    budget: float,
    network_cost: float,
    seed: int,
) -> list[Observation]:
    """Return the observations that `hwnas.profiling.time_limited` chooses within ``budget``.

    ``budget`` and ``network_cost`` are in units of the time of an isolated block.
    """
    observations = [
        seen[()],
        *(seen[network.compute_blocks] for network in spread(line, INITIAL_NETWORKS)),
    ]
    left, part = budget - 1 - INITIAL_NETWORKS * network_cost, random_part(pool, seed)
    while True:
        known = {observation.blocks for observation in observations}
        alone = [block for block in blocks if (block,) not in known]
        nets = [network for network in part if network.compute_blocks not in known]
        costs = [*(1.0 for _ in alone), *(network_cost for _ in nets)]
        timed = any(
            observation.scope == "isolated" and observation.blocks for observation in observations
        )
        candidates = Candidates(alone, [network.blocks for network in nets], costs)
        goals = [network.blocks for network in targets]
        order = select_round(fit(observations), candidates, goals, left, timed)
        keys = [*((block,) for block in alone), *(network.compute_blocks for network in nets)]
        before = len(observations)
        for place in order:
            if costs[place] <= left:
                left -= costs[place]
                observations.append(seen[keys[place]])
        if len(observations) == before:
            return observations


def half_and_half(
    blocks: Sequence[Block],
    pool: Sequence[Architecture],
    seen: Seen,
    budget: float,
    network_cost: float,
    seed: int,
) -> list[Observation]:
    """Return random blocks for half of the budget and random networks for the other half."""
    order = np.random.default_rng(seed).permutation(len(blocks))[: int(budget / 2 - 1)]
    alone = [seen[blocks[int(place)],] for place in order]
    nets = at_random(pool, int(budget / 2 / network_cost))(seed)
    return [seen[()], *alone, *(seen[network.compute_blocks] for network in nets)]


def at_random(pool: Sequence[Architecture], count: int) -> Choose:
    return lambda seed: random_part(pool, seed)[:count]


def observations_of(seen: Seen, networks: Sequence[Architecture]) -> list[Observation]:
    return [seen[network.compute_blocks] for network in networks]


def spread(line: Sequence[Architecture], count: int) -> list[Architecture]:
    """Return ``count`` networks of ``line`` at equal distances, with the first and the last."""
    return [line[int(place)] for place in np.linspace(0, len(line) - 1, count).round()]


def random_part(pool: Sequence[Architecture], seed: int) -> list[Architecture]:
    order = np.random.default_rng(seed).permutation(len(pool))
    return [pool[int(place)] for place in order[: round(POOL_SHARE * len(pool))]]


def _most_informative(
    model: LatencyModel, pool: Sequence[Architecture], targets: Sequence[Architecture], count: int
) -> list[Architecture]:
    blocks = [network.blocks for network in pool]
    order = select_networks(model, blocks, [network.blocks for network in targets], count)
    return [pool[number] for number in order]
