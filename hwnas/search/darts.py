"""DARTS: Liu, Simonyan and Yang, ICLR 2019, arXiv:1806.09055, under a latency budget.

Every edge computes all operations, weighed by ``softmax(alpha)``. Weights learn on training data,
``alpha`` on validation data with the gradient of `hwnas.search.unrolled`; the expected latency of
`hwnas.search.cell_costs` is part of the validation loss. A node keeps the two operations of
different sources with the most probable pair that the budget allows; without a budget that is
DARTS's own rule. Skips train fastest and tend to take over: cells with more than `SKIP_CAP` of
them in the normal cell come last (Liang et al., "DARTS+", arXiv:1909.06035).
"""

from __future__ import annotations

from typing import Self

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.func import functional_call

from hwnas.architecture import Genotype
from hwnas.latency_models.cost import CostTable
from hwnas.nn.cell_supernet import CellPath, CellSupernet
from hwnas.search.cell_costs import cell_costs, cell_expected_ms
from hwnas.search.cell_weights import (
    CellTraining,
    cell_supernet,
    check_cells,
    derived,
    node_rows,
    path_weights,
    per_decision,
    skips,
)
from hwnas.search.objective import objective
from hwnas.search.proxyless import frozen, mean_entropy
from hwnas.search.strategy import Batch, Setting, StepLog
from hwnas.search.unrolled import Order, VirtualStep, Weights, architecture_gradient
from hwnas.search.weights import State, below
from hwnas.spaces.cell_alpha import genotype_from_alpha
from hwnas.spaces.cells import EDGES, CellSpace
from hwnas.spaces.space import SearchSpace

SKIP_CAP = 2
DRAWN = 3
"""Times as many cells are derived as are wanted, so that some are left under the cap."""

ARCH_RATE = 0.3
"""Learning rate of ``alpha`` over that of ProxylessNAS: 3e-4 over 1e-3 in the papers."""


class Darts:
    """Trains a search net's weights, and ``alpha [E, K]`` of both kinds of cells."""

    order: Order = "first"

    def __init__(
        self,
        supernet: CellSupernet,
        costs: CostTable,
        budget_ms: float,
        generator: torch.Generator,
        arch_learning_rate: float = 3e-4,
        objective_name: str = "lagrangian",
    ) -> None:
        self.weights = CellTraining(supernet)
        self.generator = generator
        self.objective = objective(objective_name, budget_ms)
        self.set_costs(costs, budget_ms)
        shape = self.cell_costs.edge_ms[0].shape
        self.alpha = [
            nn.Parameter(1e-3 * torch.randn(shape, generator=generator)) for _ in range(2)
        ]
        self.arch_optimizer = torch.optim.Adam(
            self.alpha, arch_learning_rate, betas=(0.5, 0.999), weight_decay=1e-3
        )
        self.skip_cap = SKIP_CAP
        self._last: Batch | None = None

    @staticmethod
    def check(space: SearchSpace) -> None:
        check_cells(space, "darts")

    @classmethod
    def begin(cls, setting: Setting) -> Self:
        return cls(
            cell_supernet(setting, "darts", none=True),
            setting.table,
            setting.budget_ms,
            setting.generator,
            ARCH_RATE * setting.arch_learning_rate,
            setting.objective or "lagrangian",
        )

    @staticmethod
    def step_macs(space: CellSpace) -> float:
        """Return the MACs of the search net on one image: all operations of all edges."""
        ops = sum(site.multiplicity * site.block.macs for site in space.sites())
        return ops / EDGES + sum(block.macs for block in space.fixed)

    @property
    def supernet(self) -> CellSupernet:
        return self.weights.supernet

    def set_costs(self, costs: CostTable, budget_ms: float) -> None:
        self.costs, self.objective.budget_ms = costs, budget_ms
        self.cell_costs = cell_costs(self.supernet.space, costs, self.supernet.ops)

    def weight_step(self, batch: Batch, learning_rate: float) -> StepLog:
        normal, reduction = (probs.detach() for probs in self._probs(self.alpha))
        loss, logits = self.weights.step(
            batch, lambda images: self.supernet(images, normal, reduction), learning_rate
        )
        self._last = batch
        return self._log(loss, logits, batch[1])

    def architecture_step(self, batch: Batch) -> StepLog:
        """Look one step ahead on the last training batch (not in the first order)."""
        logits: list[Tensor] = []

        def valid_loss(weights: Weights, alpha) -> Tensor:
            logits.append(self._run(weights, alpha, batch[0]))
            loss = F.cross_entropy(logits[-1], batch[1])
            return self.objective.loss(loss, self._expected_ms(alpha))

        def train_loss(weights: Weights, alpha) -> Tensor:
            images, labels = self._last or batch
            return F.cross_entropy(self._run(weights, alpha, images), labels)

        training = self.weights
        step = VirtualStep(
            training.learning_rate, training.momentum, training.weight_decay, training.momenta
        )
        weights = dict(self.supernet.named_parameters())
        self.supernet.train()
        with torch.no_grad():
            latency_ms = self._expected_ms(self.alpha).item()
        with frozen(self.supernet):
            _, gradients = architecture_gradient(
                train_loss, valid_loss, weights, self.alpha, step, self.order
            )
        for parameter, gradient in zip(self.alpha, gradients, strict=True):
            parameter.grad = gradient
        self.arch_optimizer.step()
        self.objective.update(latency_ms)
        seen = logits[-1].detach()
        return self._log(F.cross_entropy(seen, batch[1]), seen, batch[1])

    def candidates(self, count: int, low_ms: float, high_ms: float, seed: int) -> list[Genotype]:
        logs = [probs.clamp_min(1e-12).log() for probs in self._probs(self.alpha)]
        space = self.supernet.space
        scores = node_rows(space, *logs)
        window_ms = low_ms, high_ms
        found = derived(space, scores, self.costs, window_ms, DRAWN * count, seed, True)
        return sorted(found, key=lambda one: skips(space.cells(one)) > self.skip_cap)[:count]

    def network(self, genotype: Genotype) -> CellPath:
        """Return the search net cut to a genotype: its operations with weight 1."""
        return CellPath(
            self.supernet, *path_weights(self.supernet.space, genotype, self.supernet.ops)
        )

    def preferences(self) -> tuple[list[list[float]], CostTable]:
        rows = node_rows(self.supernet.space, *self._probs(self.alpha))
        shares = [[value / max(sum(row), 1e-12) for value in row] for row in rows]
        return per_decision(shares), self.costs

    def state_dict(self) -> State:
        state = self.weights.state_dict()
        state["multiplier"] = torch.tensor(self.objective.multiplier, dtype=torch.float64)
        for kind, parameter in zip(("normal", "reduction"), self.alpha, strict=True):
            state[f"alpha.{kind}"] = parameter.detach()
            for name, value in self.arch_optimizer.state.get(parameter, {}).items():
                state[f"adam.{kind}.{name}"] = value
        return state

    def load_state_dict(self, state: State) -> None:
        self.weights.load_state_dict(state)
        self.objective.multiplier = state["multiplier"].item()
        self.arch_optimizer.state.clear()
        for kind, parameter in zip(("normal", "reduction"), self.alpha, strict=True):
            parameter.data.copy_(state[f"alpha.{kind}"])
            if adam := below(f"adam.{kind}.", state):
                self.arch_optimizer.state[parameter] = {k: v.clone() for k, v in adam.items()}

    def _probs(self, alpha) -> list[Tensor]:
        return [part.softmax(1) for part in alpha]

    def _run(self, weights: Weights, alpha, images: Tensor) -> Tensor:
        return functional_call(self.supernet, weights, (images, *self._probs(alpha)))

    def _expected_ms(self, alpha) -> Tensor:
        normal, reduction = self._probs(alpha)
        return cell_expected_ms(normal, reduction, self.cell_costs, none=0)

    @torch.no_grad()
    def _log(self, loss: Tensor, logits: Tensor, labels: Tensor) -> StepLog:
        probs = torch.cat(self._probs(self.alpha))
        normal, reduction = (alpha.tolist() for alpha in self.alpha)
        return StepLog(
            loss=loss.item(),
            accuracy=(logits.argmax(1) == labels).float().mean().item(),
            entropy=mean_entropy(probs, torch.ones_like(probs, dtype=torch.bool)),
            expected_ms=self._expected_ms(self.alpha).item(),
            multiplier=self.objective.multiplier,
            skips=skips(genotype_from_alpha(normal, reduction, self.supernet.ops)),
        )


class DartsSecond(Darts):
    """With the second order by a central difference: about three times the time of a step."""

    order: Order = "second"
