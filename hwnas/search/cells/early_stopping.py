"""When a search of relaxed cells should stop: before its derived network falls behind.

Zela et al., "Understanding and Robustifying Differentiable Architecture Search", ICLR 2020,
arXiv:1909.09656, section 4.1: where the dominant eigenvalue of the validation loss' Hessian in the
architecture parameters grows fast, the search goes back to what it had before it grew.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

WINDOW = 5
"""Evaluations, one an epoch, that are averaged."""
BACK = 4
"""Evaluations between the two averages, and back to the architecture that is kept."""
RATIO = 1.3
"""Growth of the average from which the search stops."""
FIRST = 10
"""Evaluation from which it is considered."""


class EigenStop:
    """Watches eigenvalues, and gives back the architecture of before their growth."""

    def __init__(self, first: int = FIRST) -> None:
        self.first = first
        self.values: list[float] = []
        self.kept: list[list[Tensor]] = []
        """Architecture parameters at the last evaluations, the oldest first."""
        self.stopped = False

    def add(self, value: float, arch: Sequence[Tensor]) -> list[Tensor] | None:
        """Note an evaluation; return the parameters to go back to if the search is to stop."""
        self.values.append(abs(value))
        self.kept = [*self.kept, [part.detach().clone() for part in arch]][-(BACK + 1) :]
        if len(self.values) < max(self.first, WINDOW + BACK):
            return None
        now, before = self.values[-WINDOW:], self.values[-WINDOW - BACK : -BACK]
        self.stopped = sum(now) > RATIO * sum(before)
        return self.kept[0] if self.stopped else None

    def state_dict(self) -> dict[str, Tensor]:
        state = {
            "stopped": torch.tensor(int(self.stopped)),
            "values": torch.tensor(self.values, dtype=torch.float64),
        }
        for number, arch in enumerate(self.kept):
            state |= {f"kept.{number}.{part}": value for part, value in enumerate(arch)}
        return state

    def load_state_dict(self, state: dict[str, Tensor]) -> None:
        self.stopped = bool(state["stopped"])
        self.values = state["values"].tolist()
        self.kept = []
        while f"kept.{len(self.kept)}.0" in state:
            mine = f"kept.{len(self.kept)}."
            parts = sum(name.startswith(mine) for name in state)
            self.kept.append([state[f"{mine}{part}"].clone() for part in range(parts)])
