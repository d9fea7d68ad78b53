"""ISTA-NAS, two-stage: Yang et al., NeurIPS 2020, arXiv:2010.06176, section 3.2, under a budget.

The strengths of a node's candidates are a sparse ``z [n]``, but only ``b = A z`` is trained, with a
fixed random ``A [m, n]``. At the start of each epoch ``z`` is recovered from ``b``
(`hwnas.search.cells.ista.sparse_recovery`) and two operations per node are selected; only these are
computed until the next recovery, with gates that depend on ``b``:

    gate_S = A_S' b - [(A'A - I) z_S]_S            (one step of ISTA from the selected z_S)

So a step costs as much as a network. Latency enters twice: the penalty of an operation grows with
its cost, and the two operations of each node are those of the greatest ``|z|`` whose network keeps
the budget, found exactly by the window knapsack. A node may take both from the same source.
"""

from __future__ import annotations

from typing import ClassVar, Self

import msgspec
import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from hwnas.architecture.architecture import Genotype
from hwnas.latency_models.cost import CostTable
from hwnas.nn.cells.supernet import CellPath, CellSupernet, Mask
from hwnas.search.cells.costs import joint_choices
from hwnas.search.cells.ista.sparse_recovery import (
    Array,
    MatrixKind,
    gate_bias,
    measurement_matrix,
    recover,
)
from hwnas.search.cells.training import (
    CellTraining,
    active_ops,
    cell_supernet,
    check_cells,
    skips,
    window_genotypes,
)
from hwnas.search.knapsack import window_knapsack
from hwnas.search.log import SearchMetrics
from hwnas.search.path_training import State, load_adam, save_adam
from hwnas.search.strategy import NoOptions, SearchContext, StepResult, StrategyTraits
from hwnas.spaces.cells.alpha import edge_count
from hwnas.spaces.cells.genotype import CELL_INPUTS
from hwnas.spaces.cells.space import EDGES_PER_NODE
from hwnas.spaces.space import SearchSpace
from hwnas.training.compute import CPU, Compute, full_precision
from hwnas.training.evaluation import batch_accuracy
from hwnas.training.images.loader import Batch

ARCH_RATE = 0.6
"""Learning rate of ``b`` relative to ProxylessNAS: 6e-4 / 1e-3 in the papers."""
MEASUREMENTS = 7
"""Rows of ``A`` in the code of the paper; fewer where a node has fewer candidates."""
INITIAL_STD = 0.5
"""Initial standard deviation of ``b``. The code of the paper uses 1e-3: the last cell then passes
such small values to the classifier that it learns nothing for thousands of steps."""
MIN_STRENGTH = 1e-3
"""Least strength of a candidate, relative to the strongest candidate of its node."""


class Ista:
    """Trains a search net that computes two operations per node, and ``b [m]`` of each node."""

    # costs enter by the penalty and the knapsack, in no loss; and a warm-up runs only what the
    # budget allows
    traits: ClassVar = StrategyTraits(uses_objective=False, warm_up_uses_costs=True)
    Options: ClassVar[type[msgspec.Struct]] = NoOptions
    name = "ista"
    arch_rate = ARCH_RATE
    affine = False
    """Whether the batch norms of the search net have gain and shift."""

    def __init__(
        self,
        supernet: CellSupernet,
        costs: CostTable,
        budget_ms: float,
        generator: torch.Generator,
        arch_learning_rate: float = 6e-4,
        penalty: float = 1e-5,
        cost_weight: float = 1.0,
        matrix: MatrixKind = "gauss_unit",
        measurements: int | None = None,
        compute: Compute = CPU,
    ) -> None:
        """The penalty of a candidate is ``penalty * (1 + cost_weight * ms / ms of the slowest)``.

        Raises `UsageError` for more ``measurements`` than a node has candidates. The default is
        `MEASUREMENTS`, or fewer where there are fewer candidates.
        """
        self.weights = CellTraining(supernet, compute)
        self.generator = generator
        self.penalty, self.cost_weight = penalty, cost_weight
        rng = np.random.default_rng(int(torch.randint(2**31, (), generator=generator)))
        columns = [len(supernet.ops) * (CELL_INPUTS + node) for node in self._nodes(supernet)]
        self.matrices = [
            measurement_matrix(measurements or min(MEASUREMENTS, n), n, rng, matrix)
            for n in columns
        ]
        self.b = [
            nn.Parameter(
                INITIAL_STD * torch.randn(len(a), generator=generator, dtype=torch.float64)
            )
            for a in self.matrices
        ]
        self.arch_optimizer = torch.optim.Adam(
            self.b, arch_learning_rate, betas=(0.5, 0.999), weight_decay=1e-3
        )
        self.set_costs(costs, budget_ms)
        self._select_strongest()

    @classmethod
    def check(cls, space: SearchSpace) -> None:
        check_cells(space, cls.name)

    @classmethod
    def begin(cls, context: SearchContext) -> Self:
        cls.check(context.space)
        search = cls(
            cell_supernet(context, cls.name, none=False, affine=cls.affine),
            context.table,
            context.budget_ms,
            context.generator,
            cls.arch_rate * context.arch_learning_rate,
            compute=context.compute,
        )
        search.weights.accumulate = context.accumulate
        return search

    @property
    def supernet(self) -> CellSupernet:
        return self.weights.supernet

    def set_costs(self, costs: CostTable, budget_ms: float) -> None:
        self.costs, self.budget_ms = costs, budget_ms
        self.joint = joint_choices(self.supernet.space, costs, distinct_sources=False)

    def begin_epoch(self, warm_up: bool) -> None:
        """Recover the strengths and select two operations per node until the next call."""
        self._select_strongest()

    def _select_strongest(self) -> None:
        self.z = self.recover_strengths()
        options = window_knapsack(self._pair_scores(), self.joint.costs, 0.0, self.budget_ms)
        self._select(self.joint.choices(options))

    def _pair_scores(self) -> list[list[float]]:
        """Return the score of each pair of operations of each node."""
        return [
            [float(row[i] + row[j]) for i, j in pairs]
            for row, pairs in zip(map(np.abs, self.z), self.joint.pairs, strict=True)
        ]

    def _select(self, choices: tuple[int, ...]) -> None:
        """Select these operations, with gates that start at their strengths."""
        self.choices = choices
        self.support = _supports(choices)
        self.bias = self._biases(self.support)

    def _biases(self, supports: list[tuple[int, ...]]) -> list[Tensor]:
        """Return the part of each node's gates that does not depend on ``b``."""
        return [
            torch.from_numpy(gate_bias(a, z, support))
            for a, z, support in zip(self.matrices, self.z, supports, strict=True)
        ]

    def recover_strengths(self) -> list[Array]:
        """Return ``z [n]`` of each node; slower operations are shrunk more."""
        return [self._recover_node(number) for number in range(len(self.b))]

    def _recover_node(self, number: int) -> Array:
        cost_ms = np.array(self.costs.mean_ms[EDGES_PER_NODE * number])
        relative = cost_ms / max(float(cost_ms.max()), 1e-12)
        penalty = self.penalty * (1 + self.cost_weight * relative)
        return recover(self.matrices[number], self.b[number].detach().numpy(), penalty)

    def gates(self) -> tuple[Tensor, Tensor]:
        """Return the gates of the operations, ``[E, K]`` for both kinds; zero if not selected."""
        return self._gates_of(self.support, self.bias)

    def _gates_of(
        self, supports: list[tuple[int, ...]], biases: list[Tensor]
    ) -> tuple[Tensor, Tensor]:
        space, ops = self.supernet.space, len(self.supernet.ops)
        kinds: list[Tensor] = []
        for kind in range(2):
            rows = torch.zeros(edge_count(space.nodes) * ops, dtype=torch.float64)
            for node in range(space.nodes):
                number = kind * space.nodes + node
                support = torch.tensor(supports[number])
                columns = torch.from_numpy(self.matrices[number])[:, support]
                values = columns.T @ self.b[number] - biases[number]
                rows = rows.index_put((edge_count(node) * ops + support,), values)
            kinds.append(rows.view(-1, ops).to(torch.float32))
        return kinds[0], kinds[1]

    def weight_step(self, batch: Batch, learning_rate: float) -> StepResult:
        with torch.no_grad():
            inputs = self._selected(self.gates())
        loss, logits = self.weights.step(
            batch, lambda images: self.supernet(images, *inputs), learning_rate
        )
        return StepResult(loss, batch_accuracy(logits, batch[1]))

    def architecture_step(self, batch: Batch) -> StepResult | None:
        images, labels = batch
        compute, scaler = self.weights.compute, self.weights.scaler
        self.supernet.train()
        with self.weights.frozen():
            inputs = self._selected(self.gates())
            with compute.autocast():
                logits = self.supernet(images, *inputs)
            loss = F.cross_entropy(full_precision(logits), labels)
            self.arch_optimizer.zero_grad()
            scaler.scale(loss).backward()
        scaler.unscale_(self.arch_optimizer)
        scaler.step(self.arch_optimizer)
        scaler.update()
        return StepResult(loss.detach(), batch_accuracy(logits, labels))

    def _selected(self, gates: tuple[Tensor, Tensor]) -> tuple[Tensor, Tensor, tuple[Mask, Mask]]:
        """Return the arguments of the search net: gates and masks of the operations to run, moved
        to its device once per step."""
        put = self.weights.compute.put
        return put(gates[0]), put(gates[1]), active_ops(gates)

    def candidates(self, count: int, low_ms: float, high_ms: float, seed: int) -> list[Genotype]:
        rows: list[list[float]] = []
        for z in self.recover_strengths():
            strength = np.abs(z)
            floor = MIN_STRENGTH * max(float(strength.max()), 1e-12)
            rows.append(np.log(np.maximum(strength, floor)).tolist())
        space = self.supernet.space
        return window_genotypes(space, rows, self.costs, (low_ms, high_ms), count, seed, False)

    @torch.no_grad()
    def network(self, genotype: Genotype) -> nn.Module:
        """Return the search net reduced to a genotype, with the gates of its operations.

        The weights were trained with gates, of which many are negative: if weights of 1 replace
        them, even the selected network is at chance level.
        """
        return CellPath(self.supernet, *self.genotype_gates(genotype))

    def genotype_gates(self, genotype: Genotype) -> tuple[Tensor, Tensor]:
        """Return the gates of a genotype's operations, ``[E, K]`` for both kinds."""
        supports = _supports(genotype.choices)
        return self._gates_of(supports, self._biases(supports))

    def inherits(self, genotype: Genotype) -> bool:
        return False

    def preferences(self) -> None:
        """Return ``None``: strengths are not probabilities."""
        return None

    def state_dict(self) -> State:
        state = self.weights.state_dict()
        for number, (a, b) in enumerate(zip(self.matrices, self.b, strict=True)):
            state[f"matrix.{number}"] = torch.from_numpy(a)
            state[f"b.{number}"] = b.detach()
            state |= save_adam(self.arch_optimizer, b, f"adam.{number}")
        # the selection of an epoch is that of its start, when b was another
        state["choices"] = torch.tensor(self.choices)
        return state | {f"z.{number}": torch.from_numpy(z) for number, z in enumerate(self.z)}

    def load_state_dict(self, state: State) -> None:
        self.weights.load_state_dict(state)
        for number, b in enumerate(self.b):
            self.matrices[number] = state[f"matrix.{number}"].numpy()
            b.data.copy_(state[f"b.{number}"])
            load_adam(self.arch_optimizer, b, f"adam.{number}", state)
        self.z = [state[f"z.{number}"].numpy() for number in range(len(self.b))]
        self._select(tuple(state["choices"].tolist()))

    @staticmethod
    def _nodes(supernet: CellSupernet) -> list[int]:
        return list(range(supernet.space.nodes)) * 2

    def metrics(self) -> SearchMetrics:
        space = self.supernet.space
        normal, reduction = skips(space.cells(Genotype(space.name, self.choices)))
        return SearchMetrics(
            expected_ms=self.costs.network_ms(self.choices),
            skips=normal,
            reduction_skips=reduction,
        )


def _supports(choices: tuple[int, ...]) -> list[tuple[int, ...]]:
    """Return the selected candidates of each node."""
    return [
        tuple(choices[at : at + EDGES_PER_NODE]) for at in range(0, len(choices), EDGES_PER_NODE)
    ]
