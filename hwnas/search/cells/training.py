"""What searches on cells share: the search net's training, paths, and derivation in the window."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from hwnas.architecture.architecture import Genotype
from hwnas.errors import BudgetError, UsageError
from hwnas.latency_models.cost import CostTable
from hwnas.nn.cells.supernet import CellSupernet, Mask
from hwnas.search.cells.costs import JointChoices, joint_choices
from hwnas.search.knapsack import Limit, window_samples
from hwnas.search.path_training import State, load_weights, momenta, weights_state
from hwnas.search.strategy import SearchContext
from hwnas.spaces.cells.alpha import edge_count
from hwnas.spaces.cells.genotype import CELL_INPUTS, CellGenotype
from hwnas.spaces.cells.space import EDGES, CellSpace
from hwnas.spaces.space import SearchSpace
from hwnas.training.loader import Batch


def check_cells(space: SearchSpace, strategy: str) -> CellSpace:
    """Return the space if it is one of cells, else raise `UsageError`."""
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

    Raises `UsageError` for a space of another kind.
    """
    space = check_cells(context.space, strategy)
    ops = (("none",) if none else ()) + space.ops
    supernet = CellSupernet(space, ops, affine, partial)
    supernet.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    return supernet


class CellTraining:
    """SGD with momentum on the search net, gradients clipped, as in DARTS's code."""

    def __init__(
        self,
        supernet: CellSupernet,
        momentum: float = 0.9,
        weight_decay: float = 3e-4,
        clip: float = 5.0,
    ) -> None:
        self.supernet = supernet
        self.momentum, self.weight_decay, self.clip = momentum, weight_decay, clip
        self.learning_rate = 0.0
        """Of the last step."""
        self.optimizer = torch.optim.SGD(
            supernet.parameters(), 0.0, momentum, weight_decay=weight_decay
        )

    def step(
        self, batch: Batch, run: Callable[[Tensor], Tensor], learning_rate: float
    ) -> tuple[Tensor, Tensor]:
        """Train the weights under what ``run`` computes; return the loss and the logits."""
        images, labels = batch
        self.supernet.train()
        self.learning_rate = learning_rate
        for group in self.optimizer.param_groups:
            group["lr"] = learning_rate
        logits = run(images)
        loss = F.cross_entropy(logits, labels)
        # set to None: what did not run is neither moved by momentum nor decayed
        self.optimizer.zero_grad(set_to_none=True)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(self.supernet.parameters(), self.clip)
        self.optimizer.step()
        return loss.detach(), logits.detach()

    @property
    def momenta(self) -> dict[str, Tensor]:
        """Momentum buffers by the names of the weights."""
        return momenta(self.supernet, self.optimizer)

    def state_dict(self) -> State:
        state = weights_state(self.supernet, self.optimizer)
        state["learning_rate"] = torch.tensor(self.learning_rate, dtype=torch.float64)
        return state

    def load_state_dict(self, state: State) -> None:
        load_weights(self.supernet, self.optimizer, state)
        self.learning_rate = state["learning_rate"].item()


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


def derived(
    space: CellSpace,
    scores: Sequence[Sequence[float]],
    costs: CostTable,
    window_ms: tuple[float, float],
    count: int,
    seed: int,
    distinct_sources: bool,
    skip_cap: int | None = None,
) -> list[Genotype]:
    """Return up to ``count`` genotypes in the window, that of the greatest score first.

    ``scores`` has a row for each node (normal, then reduction), with a number for each of
    `CellSpace.options`; a pair of operations scores their sum. A normal cell has at most
    ``skip_cap`` skips, unless every network that keeps the budget has more.
    """
    joint = joint_choices(space, costs, distinct_sources)
    rows = [
        [row[a] + row[b] for a, b in pairs] for row, pairs in zip(scores, joint.pairs, strict=True)
    ]
    rng = np.random.default_rng(seed)
    limit = None if skip_cap is None else _skip_limit(space, joint, skip_cap)
    try:
        found = window_samples(rows, joint.costs, *window_ms, count, rng, limit)
    except BudgetError:
        if limit is None:
            raise
        found = window_samples(rows, joint.costs, *window_ms, count, rng)
    return [Genotype(space.name, joint.choices(options)) for options in found]


def _skip_limit(space: CellSpace, joint: JointChoices, most: int) -> Limit:
    uses: list[list[int]] = []
    for number, pairs in enumerate(joint.pairs):
        options = space.options(CELL_INPUTS + number % space.nodes)
        normal = number < space.nodes
        skip = [normal and one.op == "skip_connect" for one in options]
        uses.append([skip[a] + skip[b] for a, b in pairs])
    return Limit(uses, most)


def running(gates: tuple[Tensor, Tensor]) -> tuple[Mask, Mask]:
    """Return which operations gates ``[E, K]`` let through at all."""
    normal, reduction = gates
    return (normal != 0).tolist(), (reduction != 0).tolist()


def skips(cells: CellGenotype) -> tuple[int, int]:
    """Return how many operations of the normal and of the reduction cell are skips."""
    normal, reduction = (
        sum(edge.op == "skip_connect" for edge in cell.edges)
        for cell in (cells.normal, cells.reduction)
    )
    return normal, reduction


def node_rows(space: CellSpace, normal: Tensor, reduction: Tensor) -> list[list[float]]:
    """Return a row for each node (normal, then reduction) from ``[E, K]``, without ``none``."""
    rows: list[list[float]] = []
    for values in (normal, reduction):
        real = values.detach().double()[:, -len(space.ops) :]
        for node in range(space.nodes):
            first = edge_count(node)
            rows.append(real[first : first + CELL_INPUTS + node].flatten().tolist())
    return rows


def per_decision(rows: list[list[float]]) -> list[list[float]]:
    """Return the row of each decision of the space: a node's, once for each of its operations."""
    return [row for row in rows for _ in range(EDGES)]
