"""PC-DARTS: Xu et al., ICLR 2020, arXiv:1907.05737, under a latency budget.

DARTS of which only a quarter of an edge's channels go through the operations, and the rest passes
by: a step needs a fraction of the memory. Since other channels take part each time, the choice of
edges is unsteady; so edges get weights too, a softmax of ``beta`` over those into a node. What an
operation of an edge is wanted is ``softmax(alpha) * softmax(beta)``.
"""

from __future__ import annotations

from hwnas.nn.cells.supernet import check_parts
from hwnas.search.cells.darts import Darts
from hwnas.search.cells.training import check_cells
from hwnas.spaces.space import SearchSpace


class PartialDarts(Darts):
    """Trains a search net's weights, ``alpha [E, K]`` and ``beta [E]`` of both kinds of cells."""

    name = "pc-darts"
    partial = 4
    weighs_edges = True

    @classmethod
    def check(cls, space: SearchSpace) -> None:
        check_parts(check_cells(space, cls.name), cls.partial)
