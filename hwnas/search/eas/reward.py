"""The policy gradient of EAS: reward, moving baseline, REINFORCE update."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Literal, NamedTuple

import torch
from torch import Tensor

from hwnas.search.eas.controller import Controller, Trajectory
from hwnas.search.path_training import State
from hwnas.search.statistics import ema_update
from hwnas.training.checkpoint import strip_prefix

MAX_ACCURACY = 0.999
"""Accuracy above which the reward is constant: tan(pi / 2) is infinite."""
LATENCY_EXPONENT = 0.1
"""w of ``(T / ms)^w``, as in the reward of ProxylessNAS."""
LEARNING_RATE, ENTROPY_WEIGHT = 2e-3, 1e-5
"""Learning rate of Adam and weight of the entropy, as in the code of the paper."""


def reward(accuracy: float, latency_ms: float, budget_ms: float, w: float) -> float:
    """Return ``tan(accuracy * pi / 2) * (budget / latency)^w``: the tangent rewards a gain of a
    percent more where accuracy is high (section 3.4)."""
    accuracy_reward = math.tan(min(accuracy, MAX_ACCURACY) * math.pi / 2)
    return accuracy_reward * (budget_ms / latency_ms) ** w


class Convention(NamedTuple):
    """How the moving baseline follows the mean rewards of the episodes."""

    weight_new: float
    first: Literal["move", "subtract"]
    begin: float | None
    """Initial value; ``None``: the first mean reward."""


CONVENTIONS = {
    # 0.95 is the weight of the *new* mean, which is included before it is subtracted
    "code": Convention(0.95, "move", 0.0),
    # "an exponential moving average of the previous rewards", without the new one
    "paper": Convention(0.05, "subtract", None),
}
"""As in the code of the paper, and as in its text."""


class Baseline:
    """The moving baseline."""

    def __init__(self, convention: str = "code") -> None:
        self.convention = CONVENTIONS[convention]
        self.value = self.convention.begin

    def advantages(self, rewards: Sequence[float]) -> list[float]:
        """Return the rewards of an episode minus the baseline, and update it."""
        mean = sum(rewards) / len(rewards)
        before = mean if self.value is None else self.value
        self.value = ema_update(self.value, mean, self.convention.weight_new)
        used = self.value if self.convention.first == "move" else before
        return [reward - used for reward in rewards]


def growth_loss(trajectories: Sequence[Trajectory], advantages: Sequence[float]) -> Tensor:
    """Return ``-mean(advantage * log p) - ENTROPY_WEIGHT * entropy``; all actions of a network have
    the same advantage."""
    pairs = zip(trajectories, advantages, strict=True)
    gains = [trajectory.log_prob * advantage for trajectory, advantage in pairs]
    entropy = torch.stack([trajectory.entropy for trajectory in trajectories]).sum()
    return -torch.stack(gains).mean() - ENTROPY_WEIGHT * entropy


class Learner:
    """Updates a controller once per episode."""

    def __init__(self, controller: Controller, convention: str = "code") -> None:
        self.baseline = Baseline(convention)
        self.optimizer = torch.optim.Adam(controller.parameters(), LEARNING_RATE)

    def update(self, trajectories: Sequence[Trajectory], rewards: Sequence[float]) -> None:
        advantages = self.baseline.advantages(rewards)
        loss = growth_loss(trajectories, advantages)
        self.optimizer.zero_grad()
        if loss.requires_grad:  # no gradient where there were no decisions
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
        """Load a `state_dict`; other names in it are ignored."""
        moments: dict[int, State] = {}
        for name, value in strip_prefix("adam.", state).items():
            number, field = name.split(".", 1)
            moments.setdefault(int(number), {})[field] = value
        self.optimizer.load_state_dict({**self.optimizer.state_dict(), "state": moments})
        if "baseline" in state:
            self.baseline.value = state["baseline"].item()
