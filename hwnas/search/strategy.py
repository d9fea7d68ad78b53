"""What every search strategy offers to the loop."""

from __future__ import annotations

from typing import Protocol

import msgspec
import torch
from torch import Tensor

from hwnas.architecture import Genotype
from hwnas.latency_models.cost import CostTable
from hwnas.nn.supernet import Supernet

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


class Strategy(Protocol):
    """A search algorithm. It sees batches and a table of costs, never a device."""

    generator: torch.Generator
    """Draws paths; the loop seeds it at the start of each epoch."""

    @property
    def supernet(self) -> Supernet:
        """The weights that candidates are judged with."""
        ...

    def weight_step(self, batch: Batch, learning_rate: float) -> StepLog:
        """Train the weights on a batch of training data."""
        ...

    def architecture_step(self, batch: Batch) -> StepLog | None:
        """Train what decides on a batch of validation data; ``None`` where nothing does."""
        ...

    def set_costs(self, costs: CostTable, budget_ms: float) -> None:
        """Go on under another table, e.g. one corrected by measurements."""
        ...

    def candidates(self, count: int, low_ms: float, high_ms: float, seed: int) -> list[Genotype]:
        """Return distinct genotypes inside the latency window, the most promising first."""
        ...

    def preferences(self) -> tuple[list[list[float]], CostTable] | None:
        """Return the probability of each candidate and the costs they were learnt under."""
        ...

    def state_dict(self) -> dict[str, Tensor]: ...

    def load_state_dict(self, state: dict[str, Tensor]) -> None: ...
