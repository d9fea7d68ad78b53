"""A single-path search net of cells: a forward pass runs one operation per decision.

The counterpart of `hwnas.nn.supernet.Supernet`, which is for chains. A decision (one of the two
operations of a node, with its source) is shared by all cells of its kind, so it is run and trained
in each of them.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import cast

import torch
from torch import Tensor, nn

from hwnas.nn.cells.supernet import CellSupernet, MixedCell, MixedEdge
from hwnas.spaces.cells.alpha import edge_count
from hwnas.spaces.cells.genotype import CELL_INPUTS
from hwnas.spaces.cells.space import EDGES_PER_NODE, CellSpace

CellMix = Callable[[int, "NodeOps", Sequence[Tensor], int], Tensor]
"""Computes a decision's output from (decision, its candidates, node outputs so far, active)."""


class CellPaths(nn.Module):
    """All networks of a cell space, run one at a time: images to logits ``[N, classes]``."""

    def __init__(self, space: CellSpace) -> None:
        super().__init__()
        self.space = space
        self.net = CellSupernet(space, space.ops)

    def forward(self, images: Tensor, choices: Sequence[int], mix: CellMix | None = None) -> Tensor:
        """Run the operations of ``choices``; ``mix`` may replace how an output is computed."""
        s0, s1 = self.net.begin(images)
        for cell in self.net.mixed:
            s0, s1 = s1, self._cell(cell, s0, s1, choices, mix)
        return self.net.head(s1)

    def _cell(
        self,
        cell: MixedCell,
        s0: Tensor,
        s1: Tensor,
        choices: Sequence[int],
        mix: CellMix | None,
    ) -> Tensor:
        first, second = cell.preprocess
        states = [first(s0), second(s1)]
        place = EDGES_PER_NODE * self.space.nodes if cell.reduction else 0
        for node in range(self.space.nodes):
            ops = NodeOps(cell, node, self.net.ops)
            terms = [
                ops(states, choices[decision])
                if mix is None
                else mix(decision, ops, states, choices[decision])
                for decision in range(place, place + EDGES_PER_NODE)
            ]
            states.append(terms[0] + terms[1])
            place += EDGES_PER_NODE
        return torch.cat(states[CELL_INPUTS:], dim=1)


class NodeOps:
    """The candidates of a node's two decisions in one cell: every operation on every source."""

    def __init__(self, cell: MixedCell, node: int, names: Sequence[str]) -> None:
        self.cell, self.names = cell, names
        self.first, self.sources = edge_count(node), CELL_INPUTS + node

    def __len__(self) -> int:
        return self.sources * len(self.names)

    def __call__(self, states: Sequence[Tensor], choice: int) -> Tensor:
        source, op = divmod(choice, len(self.names))
        edge = cast(MixedEdge, self.cell.edges[self.first + source])
        return edge.ops[self.names[op]](states[source])
