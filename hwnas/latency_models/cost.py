"""The table of costs that a search strategy sees: milliseconds, no devices, no predictors."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import msgspec
import numpy as np
from numpy.typing import NDArray

from hwnas.architecture import Block
from hwnas.block import FREE_OPS
from hwnas.spaces.space import SearchSpace


class CostTable(msgspec.Struct, frozen=True):
    """Latency of every candidate, ``mean_ms[P][K]`` (rows may differ in length), and the rest."""

    mean_ms: tuple[tuple[float, ...], ...]
    fixed_ms: float
    """What every network of the space costs: fixed blocks and overhead."""

    def network_ms(self, choices: Sequence[int]) -> float:
        """Return the latency of one choice for each decision."""
        chosen = (row[choice] for row, choice in zip(self.mean_ms, choices, strict=True))
        return self.fixed_ms + sum(chosen)

    def networks_ms(self, choices: NDArray[np.integer]) -> NDArray[np.float64]:
        """Return the latencies ``[N]`` of many networks, one row of ``choices [N, P]`` for each."""
        if choices.ndim != 2 or choices.shape[1] != len(self.mean_ms):
            raise ValueError(
                f"choices have shape {choices.shape}, expected [N, {len(self.mean_ms)}]"
            )
        total = np.zeros(len(choices))
        for place, row in enumerate(self.mean_ms):
            total += np.array(row)[choices[:, place]]
        return self.fixed_ms + total

    @property
    def smallest_ms(self) -> float:
        return self.fixed_ms + sum(map(min, self.mean_ms))

    @property
    def largest_ms(self) -> float:
        return self.fixed_ms + sum(map(max, self.mean_ms))


def cost_table(
    space: SearchSpace, block_ms: Callable[[Block], float], overhead_ms: float
) -> CostTable:
    """Ask ``block_ms`` for every candidate and fixed block of ``space``; a skip costs nothing.

    A candidate of several sites costs the sum over them, each as often as it is there.
    """
    rows = [[0.0] * len(decision.candidates) for decision in space.decisions]
    for site in space.sites():
        if site.block.op not in FREE_OPS:
            rows[site.decision][site.candidate] += site.multiplicity * block_ms(site.block)
    fixed_ms = sum(block_ms(block) for block in space.fixed if block.op not in FREE_OPS)
    return CostTable(tuple(map(tuple, rows)), overhead_ms + fixed_ms)
