"""From architecture parameters to cells: the derivation of DARTS, section 2.4 (arXiv:1806.09055).

A node gets the two edges whose best operation (other than ``none``) scores highest. Two scores are
in use, which derive different cells from the same parameters: the code of DARTS takes the softmax
over all operations, so that a large ``none`` demotes its edge; the code of pt.darts takes the
parameters themselves.
"""

from __future__ import annotations

from collections.abc import Sequence
from math import exp, isfinite
from typing import Literal

from hwnas.errors import UsageError
from hwnas.spaces.cells.genotype import CELL_INPUTS, DARTS_OPS, Cell, CellGenotype, Edge

Ranking = Literal["softmax", "raw"]
Rows = Sequence[Sequence[float]]
"""``[E, K]``: one row for each edge (node 2 from 0, from 1, node 3 from 0, …), one column for each
operation."""


def genotype_from_alpha(
    normal: Rows,
    reduction: Rows,
    ops: Sequence[str] = DARTS_OPS,
    ranking: Ranking = "softmax",
    edges: int = 2,
) -> CellGenotype:
    """Return the cells with the highest scores; the lower index wins a tie."""
    return CellGenotype(
        _cell("normal", normal, ops, ranking, edges),
        _cell("reduction", reduction, ops, ranking, edges),
    )


def edge_count(nodes: int) -> int:
    """Return the number of edges into ``nodes`` nodes from all nodes before each: 14 for 4."""
    return sum(range(CELL_INPUTS, CELL_INPUTS + nodes))


def softmax(row: Sequence[float]) -> list[float]:
    largest = max(row)
    powers = [exp(value - largest) for value in row]
    return [power / sum(powers) for power in powers]


def _cell(kind: str, rows: Rows, ops: Sequence[str], ranking: Ranking, edges: int) -> Cell:
    nodes = _check(kind, rows, ops)
    chosen: list[tuple[Edge, ...]] = []
    for node in range(CELL_INPUTS, CELL_INPUTS + nodes):
        first = edge_count(node - CELL_INPUTS)
        ranked = sorted(
            (_best(rows[first + source], ops, ranking, source) for source in range(node)),
            key=lambda scored: -scored[0],
        )
        chosen.append(tuple(sorted((edge for _, edge in ranked[:edges]), key=lambda e: e.source)))
    return Cell(tuple(chosen), tuple(range(CELL_INPUTS, CELL_INPUTS + nodes)))


def _best(
    row: Sequence[float], ops: Sequence[str], ranking: Ranking, source: int
) -> tuple[float, Edge]:
    """Return the score of an edge and its best operation, which is never ``none``."""
    scores = softmax(row) if ranking == "softmax" else row
    real = [place for place, op in enumerate(ops) if op != "none"]
    # compare parameters, as the softmax may underflow to ties
    best = max(real, key=lambda place: row[place])
    return scores[best], Edge(ops[best], source)


def _check(kind: str, rows: Rows, ops: Sequence[str]) -> int:
    """Return the number of nodes."""
    nodes = 1
    while edge_count(nodes) < len(rows):
        nodes += 1
    if edge_count(nodes) != len(rows):
        raise UsageError(
            f"{kind} cell: {len(rows)} edges, expected 2, 5, 9, 14 … for 1, 2, 3, 4 … nodes"
        )
    for edge, row in enumerate(rows):
        if len(row) != len(ops):
            raise UsageError(f"{kind} cell, edge {edge}: {len(row)} values for {len(ops)} ops")
        if not all(map(isfinite, row)):
            raise UsageError(f"{kind} cell, edge {edge}: a parameter is not finite")
    return nodes
