"""Latency of cells in a search: expected, of a relaxed cell, and exact, of pairs of operations.

A relaxed cell weighs every operation on every edge, but the derived one keeps two edges of a node:
to sum all edges counts 14 for 8. Here a node keeps the edges ``{e, f}`` with probability

    pi({e, f}) = exp(u_e + u_f) / sum over pairs,   u_e = log(1 - p_{e, none})

(``beta_e`` where the edges have weights of their own, as in PC-DARTS)

so that ``q_e = sum_f pi({e, f})`` adds up to two over the node's edges, and

    E = fixed + sum_kinds sum_e q_e sum_{o != none} p_{e, o} / (1 - p_{e, none}) * cost_ms[e, o].
"""

from __future__ import annotations

from itertools import combinations
from typing import NamedTuple

import torch
from torch import Tensor

from hwnas.latency_models.cost import CostTable
from hwnas.spaces.cells.genotype import CELL_INPUTS, Edge
from hwnas.spaces.cells.space import EDGES, CellSpace

NONE = "none"


class CellCosts(NamedTuple):
    """What each operation on each edge costs in all cells of its kind together."""

    edge_ms: tuple[Tensor, Tensor]
    """Normal and reduction, ``[E, K]``; edges in the order node 2 from 0, from 1, node 3 from 0."""
    fixed_ms: float


class JointChoices(NamedTuple):
    """A decision for each node instead of two: which pair of operations."""

    costs: CostTable
    pairs: tuple[tuple[tuple[int, int], ...], ...]
    """``pairs[node][option]``: the two candidates of the space's own decisions."""

    def choices(self, options: tuple[int, ...]) -> tuple[int, ...]:
        """Return the choices of the space's own decisions."""
        return tuple(
            one for row, option in zip(self.pairs, options, strict=True) for one in row[option]
        )


def cell_costs(space: CellSpace, costs: CostTable, ops: tuple[str, ...]) -> CellCosts:
    """Arrange a cell space's table by edges, with a column for each of ``ops``; none is free."""
    kinds: list[Tensor] = []
    per_kind = EDGES * space.nodes
    for kind in range(2):
        rows: list[list[float]] = []
        for node in range(space.nodes):
            row = costs.mean_ms[kind * per_kind + EDGES * node]
            options = space.options(CELL_INPUTS + node)
            known = dict(zip(options, row, strict=True))
            rows += [
                [0.0 if op == NONE else known[Edge(op, source)] for op in ops]
                for source in range(CELL_INPUTS + node)
            ]
        kinds.append(torch.tensor(rows, dtype=torch.float64))
    return CellCosts((kinds[0], kinds[1]), costs.fixed_ms)


def keep_probabilities(scores: Tensor) -> Tensor:
    """Return for the edges ``[n]`` of a node the probability that each is one of the two kept."""
    count = len(scores)
    if count == EDGES:
        return torch.ones_like(scores)
    first, second = torch.tensor(list(combinations(range(count), EDGES))).T
    together = (scores[first] + scores[second]).softmax(0)
    return torch.zeros_like(scores).index_add(0, first, together).index_add(0, second, together)


def by_node(beta: Tensor) -> Tensor:
    """Return the weights of edges ``[E]``: a softmax of ``beta`` over those into each node."""
    parts: list[Tensor] = []
    start, node = 0, CELL_INPUTS
    while start < len(beta):
        parts.append(beta[start : start + node].softmax(0))
        start, node = start + node, node + 1
    return torch.cat(parts)


def kind_expected_ms(
    probs: Tensor, edge_ms: Tensor, none: int | None, beta: Tensor | None = None
) -> Tensor:
    """Return the expected latency of all cells of a kind, differentiable in ``probs [E, K]``.

    ``none`` is the column of the operation that computes nothing, if there is one; ``beta [E]``
    are the logits of edges.
    """
    probs = probs.to(edge_ms.dtype)
    dropped = probs[:, none] if none is not None else torch.zeros_like(probs[:, 0])
    some = (1 - dropped).clamp_min(1e-12)
    each_ms = (probs * edge_ms).sum(1) / some
    scores = some.log() if beta is None else beta.to(edge_ms.dtype)
    total = each_ms.new_zeros(())
    start, node = 0, CELL_INPUTS
    while start < len(probs):
        place = slice(start, start + node)
        total = total + (keep_probabilities(scores[place]) * each_ms[place]).sum()
        start, node = start + node, node + 1
    return total


def cell_expected_ms(
    normal: Tensor,
    reduction: Tensor,
    costs: CellCosts,
    none: int | None,
    edges: tuple[Tensor, Tensor] | None = None,
) -> Tensor:
    """Return the expected latency of the network whose cells have these probabilities."""
    total = torch.as_tensor(costs.fixed_ms, dtype=torch.float64)
    for kind, probs in enumerate((normal, reduction)):
        beta = None if edges is None else edges[kind]
        total = total + kind_expected_ms(probs, costs.edge_ms[kind], none, beta)
    return total


def joint_choices(space: CellSpace, costs: CostTable, distinct_sources: bool) -> JointChoices:
    """Return each node's pairs of different operations as the options of one decision.

    ``distinct_sources`` leaves out pairs on one source, as DARTS does.
    """
    pairs: list[tuple[tuple[int, int], ...]] = []
    rows: list[tuple[float, ...]] = []
    for number in range(0, len(space.decisions), EDGES):
        node = CELL_INPUTS + (number // EDGES) % space.nodes
        options = space.options(node)
        row = costs.mean_ms[number]
        found = tuple(
            (a, b)
            for a, b in combinations(range(len(options)), EDGES)
            if not distinct_sources or options[a].source != options[b].source
        )
        pairs.append(found)
        rows.append(tuple(row[a] + row[b] for a, b in found))
    return JointChoices(CostTable(tuple(rows), costs.fixed_ms), tuple(pairs))
