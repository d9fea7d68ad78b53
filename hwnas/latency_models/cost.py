"""The table of costs that a search strategy sees: milliseconds, no devices, no predictors."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import msgspec

from hwnas.architecture import Block
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

    @property
    def smallest_ms(self) -> float:
        return self.fixed_ms + sum(map(min, self.mean_ms))

    @property
    def largest_ms(self) -> float:
        return self.fixed_ms + sum(map(max, self.mean_ms))


def cost_table(
    space: SearchSpace, block_ms: Callable[[Block], float], overhead_ms: float
) -> CostTable:
    """Ask ``block_ms`` for every candidate and fixed block of ``space``; a skip costs nothing."""
    rows: list[list[float]] = [[] for _ in space.decisions]
    for site in space.sites():
        rows[site.decision].append(0.0 if site.block.op == "identity" else block_ms(site.block))
    return CostTable(tuple(map(tuple, rows)), overhead_ms + sum(map(block_ms, space.fixed)))
