"""Latency of cells in a search: expected for a relaxed cell, exact for pairs of operations.

A relaxed cell weights every operation on every edge, but a derived cell keeps two edges per node:
a sum over all edges counts 14 instead of 8. Here a node keeps the edges ``{e, f}`` with probability

    pi({e, f}) = exp(u_e + u_f) / sum over pairs,   u_e = log(1 - p_{e, none})

(``beta_e`` where the edges have their own weights, as in PC-DARTS)

so that ``q_e = sum_f pi({e, f})`` sums to two over the edges of the node, and

    E = fixed + sum_kinds sum_e q_e sum_{o != none} p_{e, o} / (1 - p_{e, none}) * cost_ms[e, o].
"""

from __future__ import annotations

from itertools import combinations
from typing import NamedTuple

import torch
from torch import Tensor

from hwnas.latency_models.cost import CostTable
from hwnas.spaces.cells.genotype import CELL_INPUTS, Edge
from hwnas.spaces.cells.space import EDGES_PER_NODE, CellSpace

NONE = "none"


class CellCosts(NamedTuple):
    """Latency of each operation on each edge, summed over all cells of a kind."""

    edge_ms: tuple[Tensor, Tensor]
    """Normal and reduction, ``[E, K]``; edges in the order 0→2, 1→2, 0→3, …"""
    fixed_ms: float


class JointChoices(NamedTuple):
    """One decision per node instead of two: its pair of operations."""

    costs: CostTable
    pairs: tuple[tuple[tuple[int, int], ...], ...]
    """``pairs[node][option]``: the candidates of the two decisions of the space."""

    def choices(self, options: tuple[int, ...]) -> tuple[int, ...]:
        """Return the choices of the decisions of the space."""
        pairs = (row[option] for row, option in zip(self.pairs, options, strict=True))
        return tuple(choice for pair in pairs for choice in pair)


def cell_costs(space: CellSpace, costs: CostTable, ops: tuple[str, ...]) -> CellCosts:
    """Arrange the costs of a cell space by edges, with a column for each of ``ops``."""
    kinds: list[Tensor] = []
    per_kind = EDGES_PER_NODE * space.nodes
    for kind in range(2):
        rows: list[list[float]] = []
        for node in range(space.nodes):
            row = costs.mean_ms[kind * per_kind + EDGES_PER_NODE * node]
            options = space.options(CELL_INPUTS + node)
            cost_ms = dict(zip(options, row, strict=True))
            rows += [
                [0.0 if op == NONE else cost_ms[Edge(op, source)] for op in ops]
                for source in range(CELL_INPUTS + node)
            ]
        kinds.append(torch.tensor(rows, dtype=torch.float64))
    return CellCosts((kinds[0], kinds[1]), costs.fixed_ms)


def keep_probabilities(scores: Tensor) -> Tensor:
    """Return the probability of each of the edges ``[n]`` of a node to be one of its two."""
    count = len(scores)
    if count == EDGES_PER_NODE:
        return torch.ones_like(scores)
    first, second = torch.tensor(list(combinations(range(count), EDGES_PER_NODE))).T
    together = (scores[first] + scores[second]).softmax(0)
    return torch.zeros_like(scores).index_add(0, first, together).index_add(0, second, together)


def edge_softmax(beta: Tensor) -> Tensor:
    """Return weights of the edges ``[E]``: a softmax of ``beta`` over the edges into each node."""
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

    ``none`` is the column of the operation that outputs zero, if there is one; ``beta [E]`` are the
    logits of the edges.
    """
    probs = probs.to(edge_ms.dtype)
    none_probs = probs[:, none] if none is not None else torch.zeros_like(probs[:, 0])
    used = (1 - none_probs).clamp_min(1e-12)
    each_ms = (probs * edge_ms).sum(1) / used
    scores = used.log() if beta is None else beta.to(edge_ms.dtype)
    total = each_ms.new_zeros(())
    start, node = 0, CELL_INPUTS
    while start < len(probs):
        edges = slice(start, start + node)
        total = total + (keep_probabilities(scores[edges]) * each_ms[edges]).sum()
        start, node = start + node, node + 1
    return total


def cell_expected_ms(
    normal: Tensor,
    reduction: Tensor,
    costs: CellCosts,
    none: int | None,
    edges: tuple[Tensor, Tensor] | None = None,
) -> Tensor:
    """Return the expected latency of the network with these probabilities in its cells."""
    total = torch.as_tensor(costs.fixed_ms, dtype=torch.float64)
    for kind, probs in enumerate((normal, reduction)):
        beta = None if edges is None else edges[kind]
        total = total + kind_expected_ms(probs, costs.edge_ms[kind], none, beta)
    return total


def joint_choices(space: CellSpace, costs: CostTable, distinct_sources: bool) -> JointChoices:
    """Return a decision per node whose options are its pairs of different operations.

    ``distinct_sources`` excludes pairs with the same source, as DARTS does.
    """
    pairs: list[tuple[tuple[int, int], ...]] = []
    rows: list[tuple[float, ...]] = []
    for number in range(0, len(space.decisions), EDGES_PER_NODE):
        node = CELL_INPUTS + (number // EDGES_PER_NODE) % space.nodes
        options = space.options(node)
        row = costs.mean_ms[number]
        node_pairs = tuple(
            (a, b)
            for a, b in combinations(range(len(options)), EDGES_PER_NODE)
            if not distinct_sources or options[a].source != options[b].source
        )
        pairs.append(node_pairs)
        rows.append(tuple(row[a] + row[b] for a, b in node_pairs))
    return JointChoices(CostTable(tuple(rows), costs.fixed_ms), tuple(pairs))
