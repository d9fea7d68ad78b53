"""DARTS: Liu, Simonyan and Yang, ICLR 2019, arXiv:1806.09055, under a latency budget.

Every edge computes all operations, weighted by ``softmax(alpha)``. Weights are trained on training
data, ``alpha`` on validation data with the gradient of `hwnas.search.cells.unrolled_gradient`; the
expected latency (`hwnas.search.cells.costs`) is part of the validation loss. Each node keeps the
most probable pair of operations with different sources that the budget allows; without a budget
this is the rule of DARTS. Skips train fastest and tend to dominate, so a normal cell has at most
`SKIP_CAP` of them where the budget permits (Liang et al., "DARTS+", arXiv:1909.06035). The search
stops early when the curvature in ``alpha`` grows fast (`hwnas.search.cells.early_stopping`).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from typing import ClassVar, Self

import msgspec
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.func import functional_call

from hwnas.architecture.architecture import Genotype
from hwnas.latency_models.cost import CostTable
from hwnas.nn.cells.supernet import CellPath, CellSupernet
from hwnas.search.cells.costs import cell_costs, cell_expected_ms, edge_softmax
from hwnas.search.cells.early_stopping import CurvatureProbe, EigenStop
from hwnas.search.cells.training import (
    CellTraining,
    cell_supernet,
    check_cells,
    node_rows,
    path_weights,
    per_decision,
    skips,
    window_genotypes,
)
from hwnas.search.cells.unrolled_gradient import (
    RADIUS,
    Order,
    VirtualStep,
    Weights,
    architecture_gradient,
)
from hwnas.search.log import SearchMetrics
from hwnas.search.objective import objective
from hwnas.search.path_training import State, load_adam, save_adam
from hwnas.search.statistics import mean_entropy
from hwnas.search.strategy import NoOptions, SearchContext, StepResult, StrategyTraits
from hwnas.spaces.cells.alpha import genotype_from_alpha
from hwnas.spaces.cells.space import EDGES_PER_NODE, CellSpace
from hwnas.spaces.space import SearchSpace
from hwnas.training.checkpoint import strip_prefix
from hwnas.training.compute import CPU, Compute, full_precision
from hwnas.training.evaluation import batch_accuracy
from hwnas.training.images.loader import Batch

SKIP_CAP = 2
"""Maximum number of skips in a normal cell."""

NAMES = ("alpha.normal", "alpha.reduction", "beta.normal", "beta.reduction")
"""Names of the architecture parameters in a checkpoint."""

ARCH_RATE = 0.3
"""Learning rate of ``alpha`` relative to ProxylessNAS: 3e-4 / 1e-3 in the papers."""


def search_net_macs(space: CellSpace, partial: int = 1) -> float:
    """Return the MACs of the search net per image: all operations of all edges."""
    space = space.searched
    narrow = msgspec.structs.replace(space, channels=space.channels // partial)
    ops = sum(site.multiplicity * site.block.macs for site in narrow.sites())
    return ops / EDGES_PER_NODE + sum(block.macs for block in space.fixed)


class Darts:
    """Trains the weights of a search net, and ``alpha [E, K]`` for both kinds of cells."""

    traits: ClassVar = StrategyTraits(step_macs=search_net_macs)
    Options: ClassVar[type[msgspec.Struct]] = NoOptions
    name = "darts"
    order: Order = "first"
    radius = RADIUS
    """Radius of the central difference, see `architecture_gradient`."""
    partial = 1
    """The operations of an edge process 1 / ``partial`` of its channels."""
    weighs_edges = False

    def __init__(
        self,
        supernet: CellSupernet,
        costs: CostTable,
        budget_ms: float,
        generator: torch.Generator,
        arch_learning_rate: float = 3e-4,
        objective_name: str = "lagrangian",
        compute: Compute = CPU,
    ) -> None:
        self.weights = CellTraining(supernet, compute)
        self.generator = generator
        self.objective = objective(objective_name, budget_ms)
        self.set_costs(costs, budget_ms)
        shape = self.cell_costs.edge_ms[0].shape
        self.alpha = [
            nn.Parameter(1e-3 * torch.randn(shape, generator=generator)) for _ in range(2)
        ]
        self.beta = [
            nn.Parameter(1e-3 * torch.randn(shape[:1], generator=generator))
            for _ in range(2 if self.weighs_edges else 0)
        ]
        self.arch_optimizer = torch.optim.Adam(
            self.arch, arch_learning_rate, betas=(0.5, 0.999), weight_decay=1e-3
        )
        self.skip_cap = SKIP_CAP
        self.eigen_stop, self.probe = EigenStop(), CurvatureProbe()
        self._last: Batch | None = None
        self._measure_curvature = False
        self._eigenvalue: float | None = None
        """The last eigenvalue, until it is logged."""

    @classmethod
    def check(cls, space: SearchSpace) -> None:
        check_cells(space, cls.name)

    @classmethod
    def begin(cls, context: SearchContext) -> Self:
        search = cls(
            cell_supernet(context, cls.name, none=True, partial=cls.partial),
            context.table,
            context.budget_ms,
            context.generator,
            ARCH_RATE * context.arch_learning_rate,
            context.objective or "lagrangian",
            context.compute,
        )
        search.weights.accumulate = context.accumulate
        return search

    @property
    def supernet(self) -> CellSupernet:
        return self.weights.supernet

    @property
    def arch(self) -> list[nn.Parameter]:
        """Architecture parameters: ``alpha``, and ``beta [E]`` where edges have weights."""
        return [*self.alpha, *self.beta]

    def set_costs(self, costs: CostTable, budget_ms: float) -> None:
        self.costs, self.objective.budget_ms = costs, budget_ms
        self.cell_costs = cell_costs(self.supernet.space, costs, self.supernet.ops)

    def weight_step(self, batch: Batch, learning_rate: float) -> StepResult:
        with torch.no_grad():
            inputs = self._mixing(self.arch)
        loss, logits = self.weights.step(
            batch, lambda images: self.supernet(images, *inputs), learning_rate
        )
        self._last = batch
        return StepResult(loss, batch_accuracy(logits, batch[1]))

    def begin_epoch(self, warm_up: bool) -> None:
        """Measure the curvature once per epoch of the search."""
        self._measure_curvature = not warm_up and not self.eigen_stop.stopped

    def architecture_step(self, batch: Batch) -> StepResult | None:
        """Train the architecture parameters; after an early stop they do not change.

        The second order looks one weight step ahead, on the last training batch.
        """
        if self.eigen_stop.stopped:
            return None
        if not self._measure_curvature:
            return self._arch_step(batch)
        self._measure_curvature = False
        self._eigenvalue = self.eigenvalue(batch)
        before_growth = self.eigen_stop.add(self._eigenvalue, self.arch)
        result = self._arch_step(batch)
        if before_growth is not None:
            for parameter, earlier in zip(self.arch, before_growth, strict=True):
                parameter.data.copy_(earlier)
        return result

    def eigenvalue(self, batch: Batch) -> float:
        """Return the dominant eigenvalue of the Hessian of the loss in the architecture parameters.

        All calls use the images of the first ``batch``.
        """
        weights = dict(self.supernet.named_parameters())

        def loss(probe: Batch) -> Tensor:
            return F.cross_entropy(self._run(weights, self.arch, probe[0]), probe[1])

        self.supernet.train()
        with self.weights.frozen():
            return self.probe.eigenvalue(batch, loss, self.arch)

    def _arch_step(self, batch: Batch) -> StepResult:
        logits: list[Tensor] = []

        def valid_loss(weights: Weights, arch: Sequence[Tensor]) -> Tensor:
            with self._casts:
                logits.append(self._run(weights, arch, batch[0]))
            loss = F.cross_entropy(full_precision(logits[-1]), batch[1])
            # float32 before the move: an MPS device has no float64
            expected_ms = training.compute.put(self._expected_ms(arch).float())
            return self.objective.loss(loss, expected_ms)

        def train_loss(weights: Weights, arch: Sequence[Tensor]) -> Tensor:
            images, labels = self._last or batch
            return F.cross_entropy(self._run(weights, arch, images), labels)

        training = self.weights
        step = VirtualStep(
            training.learning_rate, training.momentum, training.weight_decay, training.momenta
        )
        weights = dict(self.supernet.named_parameters())
        self.supernet.train()
        with torch.no_grad():
            latency_ms = self._expected_ms(self.arch).item()
        with training.frozen():
            _, gradients = architecture_gradient(
                train_loss, valid_loss, weights, self.arch, step, self.order, self.radius
            )
        for parameter, gradient in zip(self.arch, gradients, strict=True):
            parameter.grad = gradient
        self.arch_optimizer.step()
        self.objective.update(latency_ms)
        last = full_precision(logits[-1].detach())
        return StepResult(F.cross_entropy(last, batch[1]), batch_accuracy(last, batch[1]))

    @property
    def _casts(self) -> AbstractContextManager[object]:
        """Autocast region of an architecture step. Differences of gradients need float32, and fp16
        gradients would need a loss scale, which is not used here."""
        compute = self.weights.compute
        first = self.order == "first" and compute.amp != "fp16"
        return compute.autocast() if first else nullcontext()

    def candidates(self, count: int, low_ms: float, high_ms: float, seed: int) -> list[Genotype]:
        logs = [probs.clamp_min(1e-12).log() for probs in self._scores()]
        space, window_ms = self.supernet.space, (low_ms, high_ms)
        scores = node_rows(space, *logs)
        return window_genotypes(
            space, scores, self.costs, window_ms, count, seed, True, self.skip_cap
        )

    def network(self, genotype: Genotype) -> CellPath:
        """Return the search net reduced to a genotype, whose operations have weight 1."""
        return CellPath(
            self.supernet, *path_weights(self.supernet.space, genotype, self.supernet.ops)
        )

    def inherits(self, genotype: Genotype) -> bool:
        return False

    def preferences(self) -> tuple[list[list[float]], CostTable]:
        rows = node_rows(self.supernet.space, *self._scores())
        shares = [[value / max(sum(row), 1e-12) for value in row] for row in rows]
        return per_decision(shares), self.costs

    def state_dict(self) -> State:
        state = self.weights.state_dict()
        state["multiplier"] = torch.tensor(self.objective.multiplier, dtype=torch.float64)
        for name, parameter in zip(NAMES, self.arch, strict=False):
            state[name] = parameter.detach()
            state |= save_adam(self.arch_optimizer, parameter, f"adam.{name}")
        state["measure_curvature"] = torch.tensor(int(self._measure_curvature))
        state |= {f"probe.{name}": value for name, value in self.probe.state_dict().items()}
        eigen = self.eigen_stop.state_dict()
        return state | {f"eigen.{name}": value for name, value in eigen.items()}

    def load_state_dict(self, state: State) -> None:
        self.weights.load_state_dict(state)
        self.eigen_stop.load_state_dict(strip_prefix("eigen.", state))
        self.probe.load_state_dict(strip_prefix("probe.", state), self.weights.compute)
        self.objective.multiplier = state["multiplier"].item()
        self._measure_curvature = bool(state["measure_curvature"])
        for name, parameter in zip(NAMES, self.arch, strict=False):
            parameter.data.copy_(state[name])
            load_adam(self.arch_optimizer, parameter, f"adam.{name}", state)

    def _probs(self, alpha: Sequence[Tensor]) -> list[Tensor]:
        return [part.softmax(1) for part in alpha]

    def _edges(self, beta: Sequence[Tensor]) -> tuple[Tensor, Tensor] | None:
        """Return the weights of the edges ``[E]``, a softmax over the edges into each node."""
        if not beta:
            return None
        normal, reduction = (edge_softmax(part) for part in beta)
        return normal, reduction

    @torch.no_grad()
    def _scores(self) -> list[Tensor]:
        """Return the score of each operation on each edge, ``[E, K]`` for both kinds."""
        probs, edges = self._probs(self.alpha), self._edges(self.beta)
        if edges is None:
            return probs
        return [part * weights[:, None] for part, weights in zip(probs, edges, strict=True)]

    def _run(self, weights: Mapping[str, Tensor], arch: Sequence[Tensor], images: Tensor) -> Tensor:
        return functional_call(self.supernet, dict(weights), (images, *self._mixing(arch)))

    def _mixing(
        self, arch: Sequence[Tensor]
    ) -> tuple[Tensor, Tensor, None, tuple[Tensor, Tensor] | None]:
        """Return the arguments of the search net: weights of operations and edges, moved to its
        device once per step."""
        put = self.weights.compute.put
        normal, reduction = map(put, self._probs(arch[:2]))
        edges = self._edges(arch[2:])
        return normal, reduction, None, None if edges is None else (put(edges[0]), put(edges[1]))

    def _expected_ms(self, arch: Sequence[Tensor]) -> Tensor:
        normal, reduction = self._probs(arch[:2])
        edges = (arch[2], arch[3]) if len(arch) > 2 else None
        return cell_expected_ms(normal, reduction, self.cell_costs, none=0, edges=edges)

    @torch.no_grad()
    def metrics(self) -> SearchMetrics:
        eigenvalue, self._eigenvalue = self._eigenvalue, None
        probs = torch.cat(self._probs(self.alpha))
        scores = [part.tolist() for part in self._scores()]
        normal, reduction = skips(
            genotype_from_alpha(scores[0], scores[1], self.supernet.ops, "raw")
        )
        return SearchMetrics(
            eigenvalue=eigenvalue,
            entropy=mean_entropy(probs, torch.ones_like(probs, dtype=torch.bool)),
            expected_ms=self._expected_ms(self.arch).item(),
            multiplier=self.objective.multiplier,
            skips=normal,
            reduction_skips=reduction,
        )


class DartsSecond(Darts):
    """DARTS with the second order by a central difference; an architecture step takes about six
    times as long (tools/evaluate/cells/results/gradients.md)."""

    name = "darts-2"
    order: Order = "second"
