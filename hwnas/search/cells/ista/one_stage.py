"""ISTA-NAS, one-stage: Yang et al., NeurIPS 2020, arXiv:2010.06176, section 3.3, under a budget.

What is searched is the network itself, at its own size and with its own batch norms, and weights
and measurements ``b`` learn together, from one loss on the training images. A node whose strengths
``z`` move no more from one recovery to the next has settled: its ``b`` is held, and the gains and
shifts of the batch norms that end its operations, 1 and 0 so far, are trained. When all have
settled the search is over, and what goes on is the training of one network, whose gates its batch
norms absorb (`hwnas.nn.cells.child`). A search that its plan ends before is taken as it stands.
"""

from __future__ import annotations

from typing import Self

import msgspec
import numpy as np
import torch
from torch import Tensor

from hwnas.architecture.architecture import Genotype
from hwnas.errors import UsageError
from hwnas.latency_models.cost import CostTable
from hwnas.nn.cells.child import absorbed, last_norm
from hwnas.nn.cells.supernet import CellSupernet, MixedEdge
from hwnas.nn.network import WiredNetwork
from hwnas.search.cells.ista.sparse_recovery import Array
from hwnas.search.cells.ista.two_stage import Ista
from hwnas.search.cells.training import cell_supernet, check_cells, running
from hwnas.search.log import StepLog
from hwnas.search.path_training import State
from hwnas.search.strategy import SearchContext
from hwnas.spaces.cells.alpha import edge_count
from hwnas.spaces.cells.genotype import CELL_INPUTS
from hwnas.spaces.space import SearchSpace
from hwnas.training.loader import Batch

NAME = "ista-one-stage"
ARCH_RATE = 0.3
"""Learning rate of ``b`` over that of ProxylessNAS: 3e-4 over 1e-3 in the papers."""
SETTLED = 1e-3
"""Change of a node's strengths, as a share of their length, at which the node has settled."""


class IstaOneStage(Ista):
    """Trains a network of which two operations a node are computed, and chooses them meanwhile."""

    def __init__(
        self,
        supernet: CellSupernet,
        costs: CostTable,
        budget_ms: float,
        generator: torch.Generator,
        arch_learning_rate: float = 3e-4,
        tolerance: float = SETTLED,
    ) -> None:
        """The search net has the networks' batch norms (``affine``)."""
        self.settled = [False] * len(self._nodes(supernet))
        self.tolerance = tolerance
        self.searching = False
        """Whether measurements have moved since the last recovery."""
        super().__init__(supernet, costs, budget_ms, generator, arch_learning_rate)
        self._set_trained()

    @staticmethod
    def check(space: SearchSpace) -> None:
        if check_cells(space, NAME).norm != "pool and skip":
            raise UsageError(
                f"the strategy {NAME!r} needs a batch norm at the end of every operation, and "
                f"pools and skips of the space {space.name!r} have none; use --space cells-norm"
            )

    @classmethod
    def begin(cls, context: SearchContext) -> Self:
        cls.check(context.space)
        return cls(
            cell_supernet(context, NAME, none=False, affine=True),
            context.table,
            context.budget_ms,
            context.generator,
            ARCH_RATE * context.arch_learning_rate,
        )

    def begin_epoch(self, warm_up: bool) -> None:
        """Recover the strengths of nodes that have not settled; those that rest now have."""
        before = self.z
        self._hold_strongest()
        if self.searching:
            for number, (old, new) in enumerate(zip(before, self.z, strict=True)):
                moved = np.linalg.norm(new - old)
                if moved <= self.tolerance * np.linalg.norm(old):
                    self.settled[number] = True
        self._set_trained()
        self.searching = not warm_up

    def weight_step(self, batch: Batch, learning_rate: float) -> StepLog:
        """Train the weights and, but for the warm-up, the measurements, from one loss."""
        gates = self.gates()
        if not self.searching:
            gates = gates[0].detach(), gates[1].detach()
        computed = running(gates)
        self.arch_optimizer.zero_grad()
        loss, logits = self.weights.step(
            batch, lambda images: self.supernet(images, *gates, computed), learning_rate
        )
        if self.searching:
            self.arch_optimizer.step()
        return self._log(loss, logits, batch[1])

    def architecture_step(self, batch: Batch) -> None:
        """There is one level only: `weight_step` has done it."""

    @torch.no_grad()
    def network(self, genotype: Genotype) -> WiredNetwork:
        """Return the network of a genotype; gates that were not learnt are 1."""
        return absorbed(self.supernet, genotype, *self.gates())

    def inherits(self, genotype: Genotype) -> bool:
        """Whether a network is the one that was searched: its training goes on from its weights.

        Other pairs of operations were not trained together.
        """
        return genotype.choices == self.choices

    def state_dict(self) -> State:
        state = super().state_dict()
        state["settled"] = torch.tensor(self.settled, dtype=torch.int64)
        state["choices"] = torch.tensor(self.choices)
        state["searching"] = torch.tensor(int(self.searching))
        return state | {f"z.{n}": torch.from_numpy(z) for n, z in enumerate(self.z)}

    def load_state_dict(self, state: State) -> None:
        super().load_state_dict(state)
        self.settled = [bool(one) for one in state["settled"]]
        self.searching = bool(state["searching"])
        self.z = [state[f"z.{number}"].numpy() for number in range(len(self.z))]
        self._hold(tuple(state["choices"].tolist()))
        self._set_trained()

    def _hold_strongest(self) -> None:
        held = self.support if any(self.settled) else []
        super()._hold_strongest()
        for number, kept in enumerate(held):
            if self.settled[number] and kept != self.support[number]:
                # other costs, and what had settled keeps the budget no more: all is open again
                self.settled = [False] * len(self.settled)
                super()._hold_strongest()
                return

    def _recovered(self, number: int) -> Array:
        return self.z[number] if self.settled[number] else super()._recovered(number)

    def _pair_scores(self) -> list[list[float]]:
        """What has settled has no other pair."""
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
        """Train the measurements of live nodes, and the batch norms of settled ones."""
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

    def _log(self, loss: Tensor, logits: Tensor, labels: Tensor) -> StepLog:
        log = super()._log(loss, logits, labels)
        return msgspec.structs.replace(log, live_nodes=self.settled.count(False))
