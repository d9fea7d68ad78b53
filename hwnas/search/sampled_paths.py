"""Sampled paths of a supernet, in spaces of one block per decision and in spaces of cells."""

from __future__ import annotations

from collections.abc import Sequence
from random import Random

import numpy as np
import torch
from torch import Tensor

from hwnas.architecture.architecture import Genotype
from hwnas.latency_models.cost import CostTable
from hwnas.nn.cells.paths import CellPaths
from hwnas.nn.cells.supernet import CellPath
from hwnas.nn.network import Network
from hwnas.nn.supernet import Supernet
from hwnas.search.cells.costs import joint_choices
from hwnas.search.cells.training import path_weights, skips
from hwnas.search.knapsack import window_samples
from hwnas.search.path_training import check_paths, path_supernet
from hwnas.search.strategy import SearchContext
from hwnas.spaces.cells.space import EDGES_PER_NODE, CellSpace
from hwnas.spaces.space import SearchSpace

Paths = Supernet | CellPaths
"""A supernet whose forward pass runs one candidate of each decision."""


def check_sampled(space: SearchSpace) -> None:
    """Raise `UsageError` for a space without cells whose decisions choose more than one block."""
    if not isinstance(space, CellSpace):
        check_paths(space)


def sampled_supernet(context: SearchContext) -> Paths:
    """Return the supernet of a space. Raises `UsageError` for a space that has no paths."""
    if not isinstance(context.space, CellSpace):
        return path_supernet(context)
    supernet = CellPaths(context.space.searched)
    return context.compute.place(supernet)


def extract_network(supernet: Paths, genotype: Genotype) -> Network | CellPath:
    """Return the stand-alone network of a genotype with a copy of the supernet's weights."""
    if isinstance(supernet, Supernet):
        return supernet.extract(genotype)
    net = supernet.net
    return CellPath(net, *path_weights(supernet.space, genotype, net.ops))


@torch.no_grad()
def sample_path(space: SearchSpace, probs: Tensor, generator: torch.Generator) -> list[int]:
    """Draw a candidate of each decision by ``probs [P, K]``.

    The second operation of a cell's node is drawn from all except the first.
    """
    choices: list[int] = torch.multinomial(probs, 1, generator=generator)[:, 0].tolist()
    if isinstance(space, CellSpace):
        for place in range(0, len(choices), EDGES_PER_NODE):
            if choices[place] == choices[place + 1]:
                others = probs[place + 1].clone()
                others[: len(space.decisions[place].candidates)] += 1e-9
                others[choices[place]] = 0
                choices[place + 1] = int(torch.multinomial(others, 1, generator=generator))
    return choices


def uniform_path(space: SearchSpace, costs: CostTable, generator: torch.Generator) -> list[int]:
    """Draw a path uniformly: from candidates, or from cells whose nodes have two sources."""
    if isinstance(space, CellSpace):
        seed = int(torch.randint(2**62, (), generator=generator))
        return list(space.random(Random(seed)).choices)
    return [int(torch.randint(len(row), (), generator=generator)) for row in costs.mean_ms]


def path_candidates(
    space: SearchSpace,
    scores: Sequence[Sequence[float]],
    costs: CostTable,
    window_ms: tuple[float, float],
    count: int,
    rng: np.random.Generator,
) -> list[Genotype]:
    """Return up to ``count`` genotypes in the window, the one of the greatest score first.

    ``scores`` has a row for each decision. The two operations of a cell's node have different
    sources; they are in the order of the higher score.
    """
    if not isinstance(space, CellSpace):
        rows = [list(row) for row in scores]
        samples = window_samples(rows, costs, *window_ms, count, rng)
        return [Genotype(space.name, choices) for choices in samples]
    joint = joint_choices(space, costs, distinct_sources=True)
    rows = [
        [
            max(scores[at][a] + scores[at + 1][b], scores[at][b] + scores[at + 1][a])
            for a, b in pairs
        ]
        for at, pairs in zip(range(0, len(scores), EDGES_PER_NODE), joint.pairs, strict=True)
    ]
    samples = window_samples(rows, joint.costs, *window_ms, count, rng)
    return [Genotype(space.name, joint.choices(options)) for options in samples]


def path_skips(space: SearchSpace, choices: Sequence[int]) -> tuple[int, int] | None:
    """Return the skips in both cells of a path; ``None`` for a space without cells."""
    if not isinstance(space, CellSpace):
        return None
    return skips(space.cells(Genotype(space.name, tuple(choices))))
