"""What every search strategy offers to the loop."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple, Protocol, Self

import msgspec
import torch
from torch import Tensor, nn

from hwnas.architecture.architecture import Genotype
from hwnas.errors import UsageError
from hwnas.latency_models.cost import Costs, CostTable
from hwnas.spaces.space import SearchSpace

Batch = tuple[Tensor, Tensor]
"""Images ``[N, C, H, W]`` and labels ``[N]``."""


class StepLog(msgspec.Struct, frozen=True):
    """What one step did; every strategy reports the same fields, ``None`` where it has none."""

    loss: float
    accuracy: float
    """Share of the batch that the sampled network got right."""
    entropy: float | None = None
    """Mean over decisions of H(p) / ln K: 1 uniform, 0 decided."""
    expected_ms: float | None = None
    multiplier: float | None = None
    skips: int | None = None
    """Skips in the normal cell that would be derived now: the sign of a collapse."""
    reduction_skips: int | None = None
    eigenvalue: float | None = None
    """The greatest of the validation loss' Hessian in the architecture parameters."""
    live_nodes: int | None = None
    """Of one-stage ISTA: nodes whose operations have not settled yet."""


def _silent(text: str) -> None:
    pass


class Setting(NamedTuple):
    """What a search begins from."""

    space: SearchSpace
    costs: Costs
    budget_ms: float
    generator: torch.Generator
    arch_learning_rate: float = 1e-3
    share_weights: bool = True
    """Whether candidates of a block share weights by slicing (`hwnas.nn.supernet`)."""
    objective: str = ""
    """How latency enters (`hwnas.search.objective.OBJECTIVES`); empty: the strategy's own way."""
    estimator: str = "full"
    """Of the gradient of ProxylessNAS (`hwnas.search.proxyless.gradient.ESTIMATORS`)."""

    workers: str = ""
    """Address of a Ray cluster that trains whole networks; empty: processes on this machine."""
    shrink: bool = True
    """Whether a start network over the budget may be made smaller (`hwnas.search.eas.strategy`)."""
    say: Callable[[str], None] = _silent
    """Told in one line what went wrong without stopping the search."""

    @property
    def table(self) -> CostTable:
        """The costs of a space of independent decisions. Raises `UsageError` for another space."""
        if not isinstance(self.costs, CostTable):
            raise UsageError(
                f"the layers of the space {self.space.name!r} depend on each other: it has no "
                "table of costs, and only strategy 'eas' searches it"
            )
        return self.costs


class Strategy(Protocol):
    """A search algorithm. It sees batches and a table of costs, never a device."""

    @staticmethod
    def check(space: SearchSpace) -> None:
        """Raise `UsageError` for a space that this search is not for."""
        ...

    @classmethod
    def begin(cls, setting: Setting) -> Self:
        """Return the search before its first step; weights are drawn from torch's generator.

        The space is checked here too.
        """
        ...

    def network(self, genotype: Genotype) -> nn.Module:
        """Return the stand-alone network of a genotype with a copy of the search's weights."""
        ...

    def set_costs(self, costs: Any, budget_ms: float) -> None:
        """Go on under other costs (those of a `Setting`), e.g. corrected by measurements."""
        ...

    def candidates(self, count: int, low_ms: float, high_ms: float, seed: int) -> list[Genotype]:
        """Return distinct genotypes inside the latency window, the most promising first."""
        ...

    def preferences(self) -> tuple[list[list[float]], CostTable] | None:
        """Return the probability of each candidate and the costs they were learnt under."""
        ...


class SteppedStrategy(Strategy, Protocol):
    """A search of alternating steps, which `hwnas.search.loop.run_search` runs."""

    generator: torch.Generator
    """Draws paths; the loop seeds it at the start of each epoch."""

    def weight_step(self, batch: Batch, learning_rate: float) -> StepLog:
        """Train the weights on a batch of training data."""
        ...

    def architecture_step(self, batch: Batch) -> StepLog | None:
        """Train what decides on a batch of validation data; ``None`` where nothing does."""
        ...

    def state_dict(self) -> dict[str, Tensor]: ...

    def load_state_dict(self, state: dict[str, Tensor]) -> None: ...
