"""ProxylessNAS by REINFORCE: Cai, Zhu and Han, ICLR 2019, arXiv:1812.00332, section 3.3.2.

Supernet, weights and probabilities are those of the gradient form. An architecture step samples
networks, rewards each for its predictions on a batch of validation images and for its latency, and
follows

    mean over networks of (reward - baseline) * grad log p(network)   (Williams, 1992)

The paper rewards the accuracy. The mean probability of the labels varies less with the choice of
the images: on 64 of them an update has 2.5 times the signal, as much as by the accuracy on 500
(tools/evaluate/exhaustive/results/rewards.md), so it is the default.

A network is evaluated with the statistics of the batch itself, so that no batch norm uses the
statistics of other paths.
"""

from __future__ import annotations

from typing import ClassVar, Literal, Self

import msgspec
import torch
import torch.nn.functional as F
from torch import Tensor

from hwnas.latency_models.cost import CostTable
from hwnas.nn.supernet import Supernet
from hwnas.search.objective import expected_ms
from hwnas.search.path_training import PATHS, State, check_paths, path_supernet
from hwnas.search.proxyless.gradient import Choice, ChoiceOptions, ProxylessGradient
from hwnas.search.statistics import ema_update
from hwnas.search.strategy import SearchContext, StepResult
from hwnas.training.compute import CPU, Compute, full_precision
from hwnas.training.distributed import average, check_alike
from hwnas.training.evaluation import batch_accuracy
from hwnas.training.images.loader import Batch

PART_IMAGES = 250
"""Most images in a forward pass; each pass has batch statistics of its own."""


Reward = Literal["probability", "accuracy"]


class ReinforceOptions(ChoiceOptions, frozen=True, kw_only=True):
    """Options of strategy ``reinforce``."""

    reward: Reward = "probability"
    """Quantity that is rewarded: the mean probability of the labels, or the accuracy as in the
    paper."""


class Reinforce(ProxylessGradient):
    """Trains weights as `ProxylessGradient` does, and ``arch_logits`` by REINFORCE."""

    Options: ClassVar[type[msgspec.Struct]] = ReinforceOptions
    check = staticmethod(check_paths)

    def __init__(
        self,
        supernet: Supernet,
        costs: CostTable,
        budget_ms: float,
        generator: torch.Generator,
        arch_learning_rate: float = 1e-3,
        objective_name: str = "mul#log",
        networks: int = 10,
        baseline_weight_new: float = 0.99,
        compute: Compute = CPU,
        choice: Choice = "judged",
        reward: Reward = "probability",
    ) -> None:
        """Sample ``networks`` for each update.

        Before it is used, the baseline moves the share ``baseline_weight_new`` of the way to their
        mean reward: 0.99 is nearly that mean, as in the released code, which calls it a decay.
        """
        super().__init__(
            supernet,
            costs,
            budget_ms,
            generator,
            arch_learning_rate,
            objective_name,
            compute=compute,
            choice=choice,
        )
        self.networks = networks
        self.baseline_weight_new = baseline_weight_new
        self.baseline: float | None = None
        self.reward: Reward = reward

    @classmethod
    def begin(cls, context: SearchContext) -> Self:
        options = context.options_as(ReinforceOptions)
        search = cls(
            path_supernet(context),
            context.table,
            context.budget_ms,
            context.generator,
            context.arch_learning_rate,
            context.objective or "mul#log",
            compute=context.compute,
            choice=options.choice,
            reward=options.reward,
        )
        search.weights.accumulate = context.accumulate
        return search

    def architecture_step(self, batch: Batch) -> StepResult:
        paths = [self._sample() for _ in range(self.networks)]
        check_alike(paths, PATHS)
        logits = self._logits(batch[0], paths)
        labels = batch[1].repeat(self.networks)
        rewards = [
            self.objective.reward(value, self.costs.network_ms(path))
            for value, path in zip(average(self._values(logits, batch[1])), paths, strict=True)
        ]
        mean = sum(rewards) / len(rewards)
        self.baseline = ema_update(self.baseline, mean, self.baseline_weight_new)
        probs = self.probs
        latency_ms = expected_ms(probs.detach(), self.cost_ms, self.costs.fixed_ms)
        self.arch_optimizer.zero_grad()
        advantages = torch.tensor(rewards) - self.baseline
        policy_loss(probs, torch.tensor(paths), advantages).backward()
        self.arch_optimizer.step()
        self.objective.update(latency_ms.item())
        flat = logits.flatten(0, 1)
        return StepResult(F.cross_entropy(flat, labels), batch_accuracy(flat, labels))

    def _values(self, logits: Tensor, labels: Tensor) -> list[float]:
        """Return the accuracy of each network, or its mean probability of the labels."""
        if self.reward == "accuracy":
            return (logits.argmax(2) == labels).float().mean(1).tolist()
        wanted = labels.expand(len(logits), -1)[..., None]
        return logits.softmax(2).gather(2, wanted).mean((1, 2)).tolist()

    @torch.no_grad()
    def _logits(self, images: Tensor, paths: list[list[int]]) -> Tensor:
        """Return the logits of each path's network, ``[networks, N, classes]``."""
        self.supernet.train()
        parts = images.chunk(-(-len(images) // PART_IMAGES))
        with self.weights.frozen(), self.weights.compute.autocast():
            logits = [torch.cat([self.supernet(part, path) for part in parts]) for path in paths]
        return full_precision(torch.stack(logits))

    def state_dict(self) -> State:
        state = super().state_dict()
        if self.baseline is not None:
            state["baseline"] = torch.tensor(self.baseline, dtype=torch.float64)
        return state

    def load_state_dict(self, state: State) -> None:
        super().load_state_dict(state)
        self.baseline = state["baseline"].item() if "baseline" in state else None


def policy_loss(probs: Tensor, paths: Tensor, advantages: Tensor) -> Tensor:
    """Return ``-mean_m advantages[m] * log p(paths[m])``; paths are ``[M, P]``, probs ``[P, K]``.

    Its negative gradient estimates the gradient of the expected reward.
    """
    places = torch.arange(probs.shape[0])
    log_probs = probs[places, paths].log().sum(1)
    return -(advantages.to(log_probs.dtype) * log_probs).mean()
