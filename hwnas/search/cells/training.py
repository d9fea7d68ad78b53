"""Shared parts of cell searches: training of the search net, paths, genotypes in the window."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from hwnas.architecture.architecture import Genotype
from hwnas.errors import BudgetError, UsageError
from hwnas.latency_models.cost import CostTable
from hwnas.nn.cells.supernet import CellSupernet, Mask
from hwnas.search.cells.costs import JointChoices, joint_choices
from hwnas.search.knapsack import CountLimit, window_samples
from hwnas.search.path_training import WeightTraining
from hwnas.search.strategy import SearchContext
from hwnas.spaces.cells.alpha import edge_count
from hwnas.spaces.cells.genotype import CELL_INPUTS, CellGenotype
from hwnas.spaces.cells.space import EDGES_PER_NODE, CellSpace
from hwnas.spaces.space import SearchSpace
from hwnas.training.compute import CPU, Compute


def check_cells(space: SearchSpace, strategy: str) -> CellSpace:
    """Return the space if it is a space of cells. Raises `UsageError` otherwise."""
    if not isinstance(space, CellSpace):
        raise UsageError(
            f"the strategy {strategy!r} chooses operations of a cell's nodes, and the space "
            f"{space.name!r} has no nodes; use --space cells"
        )
    return space


def cell_supernet(
    context: SearchContext, strategy: str, none: bool, affine: bool = False, partial: int = 1
) -> CellSupernet:
    """Return the search net of a cell space, with or without the operation ``none``.

    Raises `UsageError` for another kind of space.
    """
    space = check_cells(context.space, strategy).searched
    ops = (("none",) if none else ()) + space.ops
    supernet = CellSupernet(space, ops, affine, partial)
    return context.compute.place(supernet)


class CellTraining(WeightTraining[CellSupernet]):
    """Trains the search net with clipped gradients, as in the code of DARTS."""

    def __init__(
        self,
        supernet: CellSupernet,
        compute: Compute = CPU,
        momentum: float = 0.9,
        weight_decay: float = 3e-4,
        clip_norm: float = 5.0,
    ) -> None:
        super().__init__(supernet, compute, momentum, weight_decay, clip_norm=clip_norm)


def path_weights(space: CellSpace, genotype: Genotype, ops: Sequence[str]) -> tuple[Tensor, Tensor]:
    """Return weights ``[E, K]``, normal and reduction: 1 for each operation of the genotype."""
    kinds: list[Tensor] = []
    cells = space.cells(genotype)
    for cell in (cells.normal, cells.reduction):
        weights = torch.zeros(edge_count(space.nodes), len(ops))
        for node, edges in enumerate(cell.nodes):
            for edge in edges:
                weights[edge_count(node) + edge.source, ops.index(edge.op)] += 1
        kinds.append(weights)
    return kinds[0], kinds[1]


def window_genotypes(
    space: CellSpace,
    scores: Sequence[Sequence[float]],
    costs: CostTable,
    window_ms: tuple[float, float],
    count: int,
    seed: int,
    distinct_sources: bool,
    skip_cap: int | None = None,
) -> list[Genotype]:
    """Return up to ``count`` genotypes in the window, the one of the greatest score first.

    ``scores`` has a row for each node (normal, then reduction) with a score for each of
    `CellSpace.options`; the score of a pair of operations is their sum. A normal cell has at most
    ``skip_cap`` skips, unless every network within the budget has more.
    """
    joint = joint_choices(space, costs, distinct_sources)
    rows = [
        [row[a] + row[b] for a, b in pairs] for row, pairs in zip(scores, joint.pairs, strict=True)
    ]
    rng = np.random.default_rng(seed)
    limit = None if skip_cap is None else _skip_limit(space, joint, skip_cap)
    try:
        samples = window_samples(rows, joint.costs, *window_ms, count, rng, limit)
    except BudgetError:
        if limit is None:
            raise
        samples = window_samples(rows, joint.costs, *window_ms, count, rng)
    return [Genotype(space.name, joint.choices(options)) for options in samples]


def _skip_limit(space: CellSpace, joint: JointChoices, max_skips: int) -> CountLimit:
    counts: list[list[int]] = []
    for number, pairs in enumerate(joint.pairs):
        options = space.options(CELL_INPUTS + number % space.nodes)
        normal = number < space.nodes
        skip = [normal and edge.op == "skip_connect" for edge in options]
        counts.append([skip[a] + skip[b] for a, b in pairs])
    return CountLimit(counts, max_skips)


def active_ops(gates: tuple[Tensor, Tensor]) -> tuple[Mask, Mask]:
    """Return the masks of the operations whose gates ``[E, K]`` are not zero."""
    normal, reduction = gates
    return (normal != 0).tolist(), (reduction != 0).tolist()


def skips(cells: CellGenotype) -> tuple[int, int]:
    """Return the number of skips in the normal and in the reduction cell."""
    normal, reduction = (
        sum(edge.op == "skip_connect" for edge in cell.edges)
        for cell in (cells.normal, cells.reduction)
    )
    return normal, reduction


def node_rows(space: CellSpace, normal: Tensor, reduction: Tensor) -> list[list[float]]:
    """Return a row for each node (normal, then reduction) of ``[E, K]``, without ``none``."""
    rows: list[list[float]] = []
    for values in (normal, reduction):
        real = values.detach().double()[:, -len(space.ops) :]
        for node in range(space.nodes):
            first = edge_count(node)
            rows.append(real[first : first + CELL_INPUTS + node].flatten().tolist())
    return rows


def per_decision(rows: list[list[float]]) -> list[list[float]]:
    """Return a row for each decision: the row of a node once for each of its operations."""
    return [row for row in rows for _ in range(EDGES_PER_NODE)]
