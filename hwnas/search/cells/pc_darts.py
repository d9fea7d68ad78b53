"""PC-DARTS: Xu et al., ICLR 2020, arXiv:1907.05737, under a latency budget.

DARTS in which only a quarter of the channels of an edge go through its operations and the rest
bypass them: a step needs a fraction of the memory. As the channels differ from step to step, the
choice of edges is unstable; so edges have weights too, a softmax of ``beta`` over the edges into a
node. The score of an operation on an edge is ``softmax(alpha) * softmax(beta)``.
"""

from __future__ import annotations

from functools import partial as partial_macs
from typing import ClassVar

from hwnas.nn.cells.supernet import check_partial
from hwnas.search.cells.darts import Darts, search_net_macs
from hwnas.search.cells.training import check_cells
from hwnas.search.strategy import StrategyTraits
from hwnas.spaces.space import SearchSpace


class PartialDarts(Darts):
    """Trains weights, and ``alpha [E, K]`` and ``beta [E]`` for both kinds of cells."""

    partial = 4
    traits: ClassVar = StrategyTraits(step_macs=partial_macs(search_net_macs, partial=partial))
    name = "pc-darts"
    weighs_edges = True

    @classmethod
    def check(cls, space: SearchSpace) -> None:
        check_partial(check_cells(space, cls.name).searched, cls.partial)
