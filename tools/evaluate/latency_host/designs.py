"""Which networks of this machine to fit to: several choices of each kind, none by its latency.

A choice may take any of a random part of the pool only, so that choices differ and their mean says
more than one of them.
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

PART = 0.75
"""Share of the pool that one choice may take from."""

Seen = dict[tuple[Block, ...], Observation]
"""Observations by their blocks."""

Choose = Callable[[int], list[Architecture]]
"""From a seed to networks."""


def fit(observations: Sequence[Observation]) -> LatencyModel:
    return fit_model("here", observations, source="evaluation", validate=False)


def with_blocks(
    line: Sequence[Architecture], pool: Sequence[Architecture], seen: Seen, count: int
) -> Choose:
    """Return choices of ``count``: half of ``line`` from end to end, half by the model.

    ``line`` are networks in the order of their latency.
    """
    alone = [one for one in seen.values() if one.scope == "isolated"]

    def choose(seed: int) -> list[Architecture]:
        chosen, some = spread(line, count // 2), part_of(pool, seed)
        model = fit([*alone, *(seen[one.compute_blocks] for one in chosen)])
        return [*chosen, *_next(model, some, line, count - len(chosen))]

    return choose


def without_blocks(
    line: Sequence[Architecture],
    pool: Sequence[Architecture],
    targets: Sequence[Architecture],
    seen: Seen,
    count: int,
) -> Choose:
    """Return choices of ``count`` where no block is measured: three of ``line``, then by the model.

    A model of few networks alone knows little, so it is fitted again after each few that it chose;
    ``targets`` are what it is to predict well.
    """

    def choose(seed: int) -> list[Architecture]:
        chosen, some = spread(line, 3), part_of(pool, seed)
        while len(chosen) < count:
            model = fit([seen[one.compute_blocks] for one in chosen])
            left = [one for one in some if one not in chosen]
            chosen += _next(model, left, targets, min(count // 5, count - len(chosen)))
        return chosen

    return choose


def limited(
    blocks: Sequence[Block],
    line: Sequence[Architecture],
    pool: Sequence[Architecture],
    targets: Sequence[Architecture],
    seen: Seen,
    budget: float,
    network: float,
    seed: int,
) -> list[Observation]:
    """Return what a measurement of so much time takes, as `hwnas.profiling.time_limited` decides.

    ``budget`` and what each ``network`` takes are in the time of a block alone.
    """
    taken = [seen[()], *(seen[one.compute_blocks] for one in spread(line, INITIAL_NETWORKS))]
    left, some = budget - 1 - INITIAL_NETWORKS * network, part_of(pool, seed)
    while True:
        known = {one.blocks for one in taken}
        alone = [block for block in blocks if (block,) not in known]
        nets = [one for one in some if one.compute_blocks not in known]
        costs = [*(1.0 for _ in alone), *(network for _ in nets)]
        timed = any(one.scope == "isolated" and one.blocks for one in taken)
        candidates = Candidates(alone, [one.blocks for one in nets], costs)
        goals = [one.blocks for one in targets]
        order = select_round(fit(taken), candidates, goals, left, timed)
        keys = [*((block,) for block in alone), *(one.compute_blocks for one in nets)]
        before = len(taken)
        for place in order:
            if costs[place] <= left:
                left -= costs[place]
                taken.append(seen[keys[place]])
        if len(taken) == before:
            return taken


def half_and_half(
    blocks: Sequence[Block],
    pool: Sequence[Architecture],
    seen: Seen,
    budget: float,
    network: float,
    seed: int,
) -> list[Observation]:
    """Return random blocks for half of the time, and random networks for the other half."""
    order = np.random.default_rng(seed).permutation(len(blocks))[: int(budget / 2 - 1)]
    alone = [seen[blocks[int(place)],] for place in order]
    nets = at_random(pool, int(budget / 2 / network))(seed)
    return [seen[()], *alone, *(seen[one.compute_blocks] for one in nets)]


def at_random(pool: Sequence[Architecture], count: int) -> Choose:
    return lambda seed: part_of(pool, seed)[:count]


def networks_of(seen: Seen, networks: Sequence[Architecture]) -> list[Observation]:
    return [seen[one.compute_blocks] for one in networks]


def spread(line: Sequence[Architecture], count: int) -> list[Architecture]:
    """Return ``count`` of ``line`` at equal distances, the first and the last too."""
    return [line[int(place)] for place in np.linspace(0, len(line) - 1, count).round()]


def part_of(pool: Sequence[Architecture], seed: int) -> list[Architecture]:
    order = np.random.default_rng(seed).permutation(len(pool))
    return [pool[int(place)] for place in order[: round(PART * len(pool))]]


def _next(
    model: LatencyModel, pool: Sequence[Architecture], targets: Sequence[Architecture], count: int
) -> list[Architecture]:
    blocks = [one.blocks for one in pool]
    order = select_networks(model, blocks, [one.blocks for one in targets], count)
    return [pool[number] for number in order]
