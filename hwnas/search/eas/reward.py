"""How EAS learns from the networks that it trained: reward, baseline, one REINFORCE update."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Literal, NamedTuple

import torch
from torch import Tensor

from hwnas.search.eas.controller import Controller, Trajectory
from hwnas.search.path_training import State, below
from hwnas.search.proxyless.reinforce import moved

MOST = 0.999
"""Accuracy from which the reward rises no more: tan(pi / 2) is infinite."""
LATENCY_EXPONENT = 0.1
"""w of ``(T / ms)^w``, as in the reward of ProxylessNAS."""
LEARNING_RATE, ENTROPY_WEIGHT = 2e-3, 1e-5
"""As in the paper's code."""


def reward(accuracy: float, latency_ms: float, budget_ms: float, w: float) -> float:
    """Return ``tan(accuracy * pi / 2) * (budget / latency)^w``: a percent more is worth more where
    accuracy is high already (section 3.4)."""
    worth = math.tan(min(accuracy, MOST) * math.pi / 2)
    return worth * (budget_ms / latency_ms) ** w


class Convention(NamedTuple):
    """How the moving baseline follows the mean reward of each episode."""

    weight_new: float
    first: Literal["move", "subtract"]
    begin: float | None
    """Before any reward; ``None``: the first mean reward itself."""


CONVENTIONS = {
    # 0.95 is the share of the *new* mean, which counts before it is subtracted, from 0 on
    "code": Convention(0.95, "move", 0.0),
    # "an exponential moving average of the previous rewards": they alone count
    "paper": Convention(0.05, "subtract", None),
}
"""Of the paper's code, and as the paper says it."""


class Baseline:
    """The moving baseline."""

    def __init__(self, convention: str = "code") -> None:
        self.convention = CONVENTIONS[convention]
        self.value = self.convention.begin

    def advantages(self, rewards: Sequence[float]) -> list[float]:
        """Return what each reward of an episode is above the baseline, and move that."""
        mean = sum(rewards) / len(rewards)
        before = mean if self.value is None else self.value
        self.value = moved(self.value, mean, self.convention.weight_new)
        used = self.value if self.convention.first == "move" else before
        return [one - used for one in rewards]


def growth_loss(trajectories: Sequence[Trajectory], advantages: Sequence[float]) -> Tensor:
    """Return ``-mean(advantage * log p) - ENTROPY_WEIGHT * entropy``; the same advantage counts for
    all actions of a network."""
    gained = [one.log_prob * worth for one, worth in zip(trajectories, advantages, strict=True)]
    entropy = torch.stack([one.entropy for one in trajectories]).sum()
    return -torch.stack(gained).mean() - ENTROPY_WEIGHT * entropy


class Learner:
    """Updates a controller once for each episode."""

    def __init__(self, controller: Controller, convention: str = "code") -> None:
        self.baseline = Baseline(convention)
        self.optimizer = torch.optim.Adam(controller.parameters(), LEARNING_RATE)

    def update(self, trajectories: Sequence[Trajectory], rewards: Sequence[float]) -> None:
        advantages = self.baseline.advantages(rewards)
        loss = growth_loss(trajectories, advantages)
        self.optimizer.zero_grad()
        if loss.requires_grad:  # where nothing could be decided there is nothing to learn
            loss.backward()
            self.optimizer.step()

    def state_dict(self) -> State:
        """Return the moments of Adam and the baseline, as tensors by name."""
        state: State = {}
        for number, values in self.optimizer.state_dict()["state"].items():
            state |= {f"adam.{number}.{name}": value for name, value in values.items()}
        if self.baseline.value is not None:
            state["baseline"] = torch.tensor(self.baseline.value, dtype=torch.float64)
        return state

    def load_state_dict(self, state: State) -> None:
        """Go on from a `state_dict`; other names in it are left alone."""
        moments: dict[int, State] = {}
        for name, value in below("adam.", state).items():
            number, field = name.split(".", 1)
            moments.setdefault(int(number), {})[field] = value
        self.optimizer.load_state_dict({**self.optimizer.state_dict(), "state": moments})
        if "baseline" in state:
            self.baseline.value = state["baseline"].item()
