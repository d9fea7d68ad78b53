"""ISTA-NAS, one-stage: Yang et al., NeurIPS 2020, arXiv:2010.06176, section 3.3, under a budget.

The search net has the size and the batch norms of the final network, and weights and measurements
``b`` are trained together, with one loss on the training images. A node whose strengths ``z`` do
not change from one recovery to the next has settled: its ``b`` is fixed, and the weights and biases
of the batch norms at the end of its operations (1 and 0 so far) are trained. When all nodes have
settled the search is over and the training of a single network continues; its batch norms absorb
the gates (`hwnas.nn.cells.child`). If the plan ends earlier, the current selection is the result.
"""

from __future__ import annotations

import msgspec
import numpy as np
import torch

from hwnas.architecture.architecture import Genotype
from hwnas.errors import BudgetError, UsageError
from hwnas.latency_models.cost import CostTable
from hwnas.nn.cells.child import absorb_gates, last_norm
from hwnas.nn.cells.supernet import CellSupernet, MixedEdge
from hwnas.nn.network import WiredNetwork
from hwnas.search.cells.ista.sparse_recovery import Array
from hwnas.search.cells.ista.two_stage import Ista
from hwnas.search.cells.training import check_cells
from hwnas.search.log import SearchMetrics
from hwnas.search.path_training import State
from hwnas.search.strategy import StepResult
from hwnas.spaces.cells.alpha import edge_count
from hwnas.spaces.cells.genotype import CELL_INPUTS
from hwnas.spaces.space import SearchSpace
from hwnas.training.compute import CPU, Compute
from hwnas.training.evaluation import batch_accuracy
from hwnas.training.images.loader import Batch

ARCH_RATE = 0.3
"""Learning rate of ``b`` relative to ProxylessNAS: 3e-4 / 1e-3 in the papers."""
SETTLED_CHANGE = 1e-3
"""A node has settled when its strengths change by at most this share of their length."""


class IstaOneStage(Ista):
    """Trains a network that computes two operations per node while it selects them."""

    name = "ista-one-stage"
    arch_rate = ARCH_RATE
    affine = True

    def __init__(
        self,
        supernet: CellSupernet,
        costs: CostTable,
        budget_ms: float,
        generator: torch.Generator,
        arch_learning_rate: float = 3e-4,
        tolerance: float = SETTLED_CHANGE,
        compute: Compute = CPU,
    ) -> None:
        """``supernet`` has the batch norms of the final network (``affine``)."""
        self.settled = [False] * len(self._nodes(supernet))
        self.tolerance = tolerance
        self.searching = False
        """Whether ``b`` was trained since the last recovery."""
        super().__init__(supernet, costs, budget_ms, generator, arch_learning_rate, compute=compute)
        self._set_trained()

    @classmethod
    def check(cls, space: SearchSpace) -> None:
        if check_cells(space, cls.name).norm != "pool and skip":
            raise UsageError(
                f"the strategy {cls.name!r} needs a batch norm at the end of every operation, and "
                f"pools and skips of the space {space.name!r} have none; use --space cells-norm"
            )

    def begin_epoch(self, warm_up: bool) -> None:
        """Recover the strengths of nodes that have not settled, and fix those that settle now."""
        before = self.z
        self._select_strongest()
        if self.searching:
            for number, (old, new) in enumerate(zip(before, self.z, strict=True)):
                change = np.linalg.norm(new - old)
                if change <= self.tolerance * np.linalg.norm(old):
                    self.settled[number] = True
        self._set_trained()
        self.searching = not warm_up

    def weight_step(self, batch: Batch, learning_rate: float) -> StepResult:
        """Train the weights and, after the warm-up, ``b``, with one loss."""
        scale = self.weights.scaler.get_scale()
        gates = self.gates()
        if not self.searching:
            gates = gates[0].detach(), gates[1].detach()
        inputs = self._selected(gates)
        self.arch_optimizer.zero_grad()
        loss, logits = self.weights.step(
            batch, lambda images: self.supernet(images, *inputs), learning_rate
        )
        if self.searching:
            self._arch_step(scale)
        return StepResult(loss, batch_accuracy(logits, batch[1]))

    def _arch_step(self, scale: float) -> None:
        """Train ``b`` by the gradient of the weights' loss, which was multiplied by ``scale``; a
        gradient that was too large for fp16 changes nothing."""
        grads = [b.grad for b in self.b if b.grad is not None]
        if all(bool(grad.isfinite().all()) for grad in grads):
            for grad in grads:
                grad /= scale
            self.arch_optimizer.step()

    def architecture_step(self, batch: Batch) -> None:
        """Return ``None``: `weight_step` trains ``b`` too, as the search has one level only."""

    @torch.no_grad()
    def network(self, genotype: Genotype) -> WiredNetwork:
        """Return the network of a genotype, whose batch norms absorb the gates."""
        normal, reduction = map(self.weights.compute.put, self.genotype_gates(genotype))
        return absorb_gates(self.supernet, genotype, normal, reduction)

    def inherits(self, genotype: Genotype) -> bool:
        """Return whether the network is the selected one; other pairs were not trained together."""
        return genotype.choices == self.choices

    def state_dict(self) -> State:
        state = super().state_dict()
        state["settled"] = torch.tensor(self.settled, dtype=torch.int64)
        state["searching"] = torch.tensor(int(self.searching))
        return state

    def load_state_dict(self, state: State) -> None:
        super().load_state_dict(state)
        self.settled = [bool(flag) for flag in state["settled"]]
        self.searching = bool(state["searching"])
        self._set_trained()

    def _select_strongest(self) -> None:
        try:
            super()._select_strongest()
        except BudgetError:
            if not any(self.settled):
                raise
            # with the new costs the settled pairs exceed the budget: search all nodes again
            self.settled = [False] * len(self.settled)
            super()._select_strongest()

    def _recover_node(self, number: int) -> Array:
        return self.z[number] if self.settled[number] else super()._recover_node(number)

    def _pair_scores(self) -> list[list[float]]:
        """Return the scores of `Ista`, with those of other pairs of settled nodes excluded."""
        rows = super()._pair_scores()
        return [
            [
                score if not settled or pair == self.support[number] else -np.inf
                for score, pair in zip(row, pairs, strict=True)
            ]
            for number, (row, pairs, settled) in enumerate(
                zip(rows, self.joint.pairs, self.settled, strict=True)
            )
        ]

    def _set_trained(self) -> None:
        """Train ``b`` of the nodes that are searched, and the batch norms of settled nodes."""
        nodes = self.supernet.space.nodes
        for number, (b, settled) in enumerate(zip(self.b, self.settled, strict=True)):
            b.requires_grad_(not settled)
            kind, node = divmod(number, nodes)
            first = edge_count(node)
            for cell in self.supernet.mixed:
                if cell.reduction == bool(kind):
                    for edge in cell.edges[first : first + CELL_INPUTS + node]:
                        assert isinstance(edge, MixedEdge)
                        for op in edge.ops.values():
                            last_norm(op).requires_grad_(settled)

    def metrics(self) -> SearchMetrics:
        return msgspec.structs.replace(super().metrics(), live_nodes=self.settled.count(False))
