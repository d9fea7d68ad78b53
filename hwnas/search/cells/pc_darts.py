"""PC-DARTS: Xu et al., ICLR 2020, arXiv:1907.05737, under a latency budget.

DARTS of which only a quarter of an edge's channels go through the operations, and the rest passes
by: a step needs a fraction of the memory. Since other channels take part each time, the choice of
edges is unsteady; so edges get weights too, a softmax of ``beta`` over those into a node. What an
operation of an edge is wanted is ``softmax(alpha) * softmax(beta)``.
"""

from __future__ import annotations

from functools import partial as partial_macs
from typing import ClassVar

from hwnas.nn.cells.supernet import check_parts
from hwnas.search.cells.darts import Darts, search_net_macs
from hwnas.search.cells.training import check_cells
from hwnas.search.strategy import StrategyTraits
from hwnas.spaces.space import SearchSpace


class PartialDarts(Darts):
    """Trains a search net's weights, ``alpha [E, K]`` and ``beta [E]`` of both kinds of cells."""

    partial = 4
    traits: ClassVar = StrategyTraits(step_macs=partial_macs(search_net_macs, partial=partial))
    name = "pc-darts"
    weighs_edges = True

    @classmethod
    def check(cls, space: SearchSpace) -> None:
        check_parts(check_cells(space, cls.name), cls.partial)
