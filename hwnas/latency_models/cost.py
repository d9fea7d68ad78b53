"""Costs of networks in milliseconds: all that a search strategy knows of devices and predictors.

Where decisions are independent, the costs are a table (`CostTable`). Where a block depends on
other choices (`hwnas.spaces.dependent`), each network has its own cost (`NetworkCosts`).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence, Set

import msgspec
import numpy as np
from numpy.typing import NDArray

from hwnas.architecture.architecture import Block, Genotype
from hwnas.spaces.dependent import DependentSpace, as_dependent
from hwnas.spaces.int8 import in_float
from hwnas.spaces.space import SearchSpace


class CostTable(msgspec.Struct, frozen=True):
    """Latency of every candidate, ``mean_ms[P][K]`` (rows may differ in length), and the rest."""

    mean_ms: tuple[tuple[float, ...], ...]
    fixed_ms: float
    """Cost that all networks share: fixed blocks and overhead."""
    reach_ms: tuple[float, float] | None = None
    """Smallest and largest cost of the chosen blocks, where decisions depend on each other."""

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
        """Latency of the fastest network."""
        return self.fixed_ms + (self.reach_ms[0] if self.reach_ms else sum(map(min, self.mean_ms)))

    @property
    def largest_ms(self) -> float:
        """Latency of the slowest network."""
        return self.fixed_ms + (self.reach_ms[1] if self.reach_ms else sum(map(max, self.mean_ms)))


MAX_BLOCKS_PER_CALL = 500
"""Blocks whose costs are computed at once; the memory for it grows with their square."""


class NetworkCosts:
    """Latency of whole networks of a dependent space; the cost of a block is computed once."""

    def __init__(
        self,
        space: SearchSpace,
        blocks_ms: Callable[[Sequence[Block]], Mapping[Block, float]],
        overhead_ms: float,
    ) -> None:
        """``blocks_ms`` returns the costs of many blocks at once."""
        self._space, self._ask_ms, self._overhead_ms = space, blocks_ms, overhead_ms
        self._blocks_ms: dict[Block, float] = {}
        self._networks_ms: dict[tuple[int, ...], float] = {}

    def network_ms(self, choices: Sequence[int]) -> float:
        """Return the latency of one choice for each decision."""
        return self.networks_ms([choices])[0]

    def networks_ms(self, rows: Iterable[Sequence[int]]) -> list[float]:
        """Return the latencies of many networks at once."""
        names = [tuple(map(int, row)) for row in rows]
        new = {name: self._blocks(name) for name in names if name not in self._networks_ms}
        costs_ms = self._costs_ms({block for blocks in new.values() for block in blocks})
        for name, blocks in new.items():
            total_ms = sum(costs_ms[block] for block in blocks)
            self._networks_ms[name] = self._overhead_ms + total_ms
        return [self._networks_ms[name] for name in names]

    def table(self, rows: Sequence[Sequence[Block]], fixed: Sequence[Block]) -> CostTable:
        """Return the costs of a chain of independent decisions: a block of each of ``rows``, and
        the ``fixed`` blocks."""
        costs_ms = self._costs_ms({block for blocks in (*rows, fixed) for block in blocks})
        return CostTable(
            tuple(tuple(costs_ms[block] for block in row) for row in rows),
            self._overhead_ms + sum(costs_ms[block] for block in fixed),
        )

    def _costs_ms(self, blocks: Set[Block]) -> Mapping[Block, float]:
        """Return the costs of at least ``blocks``; those of new ones are computed together."""
        fresh = sorted(blocks - self._blocks_ms.keys(), key=lambda block: block.key)
        for first in range(0, len(fresh), MAX_BLOCKS_PER_CALL):
            part = fresh[first : first + MAX_BLOCKS_PER_CALL]
            costs_ms = self._ask_ms(part)
            self._blocks_ms.update((block, costs_ms.get(block, 0.0)) for block in part)
        return self._blocks_ms

    def _blocks(self, choices: tuple[int, ...]) -> tuple[Block, ...]:
        return self._space.architecture(Genotype(self._space.name, choices)).blocks

    @property
    def smallest_ms(self) -> float:
        return self.network_ms(_dependent(self._space).smallest.choices)

    @property
    def largest_ms(self) -> float:
        return self.network_ms(_dependent(self._space).largest.choices)


Costs = CostTable | NetworkCosts


def _dependent(space: SearchSpace) -> DependentSpace:
    dependent = as_dependent(space)
    assert dependent is not None
    return dependent


def cost_table(
    space: SearchSpace, block_ms: Callable[[Block], float], overhead_ms: float
) -> CostTable:
    """Return the costs of every candidate and fixed block of ``space``; a skip costs nothing.

    A candidate with several sites costs the sum over them, each as often as it occurs. A space
    whose decisions depend on each other computes the smallest and largest cost of its networks
    (``reach_ms``) from the rows.
    """
    rows = [[0.0] * len(decision.candidates) for decision in space.decisions]
    for site in space.sites():
        if not site.block.is_free:
            rows[site.decision][site.candidate] += site.multiplicity * block_ms(site.block)
    fixed_ms = sum(block_ms(block) for block in space.fixed if not block.is_free)
    reach = getattr(in_float(space), "reach_ms", None)
    reach_ms = None if reach is None else reach(rows)
    return CostTable(tuple(map(tuple, rows)), overhead_ms + fixed_ms, reach_ms)
