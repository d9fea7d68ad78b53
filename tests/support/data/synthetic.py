"""A device with known costs, to compare latency models with."""

from __future__ import annotations

from collections.abc import Sequence
from random import Random

import numpy as np

from hwnas.architecture.architecture import Block
from hwnas.latency_models.features import resources
from hwnas.latency_models.observation import Observation
from hwnas.spaces.mobile.space import mobile_space

SPACE = mobile_space((1, 28, 28), 10)
BLOCKS = tuple(
    dict.fromkeys(
        [*SPACE.fixed, *(site.block for site in SPACE.sites() if site.block.op != "identity")]
    )
)
WEIGHTS = np.array([0.002, 0.02, 0.15, 0.15, 0.3, 0.4, 0.1, 0.3, 0.3])
"""ms for each of `RESOURCES`."""
SCALE, CALL_MS, OVERHEAD_MS = 0.85, 0.03, 0.035
"""Cost of a block inside networks relative to its isolated time; latency of a call; overhead."""


def costs_ms(blocks: Sequence[Block] = BLOCKS, own: float = 0.03) -> dict[Block, float]:
    """Return the costs of blocks inside networks, each with a relative deviation ``own``."""
    deviation = np.random.default_rng(0).standard_normal(len(blocks))
    ms = (resources(blocks) @ WEIGHTS) * np.exp(own * deviation)
    return dict(zip(blocks, ms.tolist(), strict=True))


COSTS_MS = costs_ms()


def isolated(
    costs: dict[Block, float] = COSTS_MS, noise: float = 0.0, seed: int = 0
) -> list[Observation]:
    """Return the null model and every block, measured in isolation."""
    rng = np.random.default_rng(seed)
    blocks = [
        Observation(
            "isolated", (block,), (ms / SCALE + CALL_MS) * noisy(rng, noise), max(noise, 0.002)
        )
        for block, ms in costs.items()
    ]
    return [Observation("isolated", (), CALL_MS, 0.002), *blocks]


def in_network(costs: dict[Block, float] = COSTS_MS) -> list[Observation]:
    """Return every block's time inside networks, as a published table has it."""
    return [Observation("in_network", (block,), ms, 0.002) for block, ms in costs.items()]


def networks(
    count: int, seed: int, noise: float = 0.0, costs: dict[Block, float] = COSTS_MS
) -> list[Observation]:
    """Return random networks of the space, measured with a relative ``noise``."""
    rng, draw = np.random.default_rng(seed), Random(seed)
    observations: list[Observation] = []
    for _ in range(count):
        blocks = SPACE.architecture(SPACE.random(draw)).compute_blocks
        ms = (OVERHEAD_MS + sum(costs[block] for block in blocks)) * noisy(rng, noise)
        observations.append(Observation("network", blocks, ms, max(noise, 0.002)))
    return observations


def noisy(rng: np.random.Generator, noise: float) -> float:
    return float(np.exp(noise * rng.standard_normal()))
