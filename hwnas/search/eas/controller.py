"""The meta-controller of EAS: an LSTM that reads a network and actors that decide how to grow it.

Cai et al., AAAI 2018, arXiv:1707.04873, section 3, with the sizes of the paper's code: an embedding
of 16, a bidirectional LSTM of 50 units per direction, and two actors. Net2Wider decides for each
layer independently, by a sigmoid, whether it gets the next width. Net2Deeper decides on the stage,
the layer and the kernel size of a new layer in turn, by an LSTM that starts from the last state of
the encoder. Chains of MBConv have a third actor like the first, for the next kernel size of each
block.

Decisions that are impossible, or lead to a network that is not allowed (over the budget), are
masked: they are never taken, and the probabilities of the others are normalised without them.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import NamedTuple

import torch
from torch import Tensor, nn

from hwnas.spaces.grown.space import Layers, Place
from hwnas.spaces.grown.steps import (
    Growable,
    Step,
    apply_step,
    deeper_steps,
    larger_step,
    sentence,
    vocabulary,
    wider_step,
)

EMBEDDING, UNITS = 16, 50

Allowed = Callable[[Layers], bool]
"""Returns whether a network is allowed: whether its predicted latency keeps the budget."""
Choose = Callable[[Tensor], int]
"""Returns an index into ``probs [K]``."""


class Controller(nn.Module):
    """Encoder and actors for the networks of one space."""

    def __init__(self, space: Growable, embedding: int = EMBEDDING, units: int = UNITS) -> None:
        super().__init__()
        self.words = vocabulary(space)
        self.kernels = sorted({kernel for stage in space.stages for kernel in stage.kernels})
        outputs = (
            len(space.stages),
            max(stage.depth for stage in space.stages),
            len(self.kernels),
        )
        self.embedding = nn.Embedding(len(self.words) + 1, embedding, padding_idx=0)
        nn.init.uniform_(self.embedding.weight, -math.sqrt(3), math.sqrt(3))
        self.encoder = nn.LSTM(embedding, units, bidirectional=True)
        self.wider = nn.Linear(2 * units, 1)
        self.larger = nn.Linear(2 * units, 1) if space.larger_actions else None
        self.decoder = nn.LSTMCell(embedding, 2 * units)
        self.deeper = nn.ModuleList(nn.Linear(2 * units, count) for count in outputs)
        self.decided = nn.ModuleList(nn.Embedding(count, embedding) for count in outputs[:2])

    def encode(self, words: list[str]) -> tuple[Tensor, tuple[Tensor, Tensor]]:
        """Return the outputs ``[L, 2 units]`` and the last hidden and cell state, ``[2 units]``."""
        codes = torch.tensor([self.words[word] for word in words])
        outputs, (hidden, cell) = self.encoder(self.embedding(codes))
        return outputs, (hidden.flatten(), cell.flatten())

    def make_uniform(self) -> Controller:
        """Make all decisions equally likely, for EAS with random actions."""
        for head in (self.wider, self.larger, *self.deeper):
            if head is not None:
                nn.init.zeros_(head.weight)  # type: ignore[arg-type]
                nn.init.zeros_(head.bias)  # type: ignore[arg-type]
        return self


class Trajectory(NamedTuple):
    """A grown network, and the terms of its policy gradient."""

    layers: Layers
    steps: tuple[Step, ...]
    log_prob: Tensor
    """Log-probability of all decisions; scalar."""
    entropy: Tensor
    """Entropy of all decisions in nats; scalar."""
    relative_entropy: float
    """Mean over the decisions of H(p) / ln K: 1 uniform, 0 decided; 0 without decisions."""


def grow(
    controller: Controller,
    space: Growable,
    start: Layers,
    allowed: Allowed,
    choose: Choose,
    wider_actions: int,
    deeper_actions: int,
    larger_actions: int = 0,
) -> Trajectory:
    """Grow ``start`` by the given number of actions: wider, larger kernels, deeper."""
    episode = _Episode(controller, space, start, allowed, choose)
    for _ in range(wider_actions):
        episode.grow_each(controller.wider, wider_step)
    for _ in range(larger_actions):
        assert controller.larger is not None
        episode.grow_each(controller.larger, larger_step)
    for _ in range(deeper_actions):
        episode.deepen()
    logs, entropies = episode.log_probs, episode.entropies
    zero = torch.zeros(())
    return Trajectory(
        episode.layers,
        tuple(episode.steps),
        torch.stack(logs).sum() if logs else zero,
        torch.stack(entropies).sum() if entropies else zero,
        sum(episode.relative) / max(1, len(episode.relative)),
    )


def sampling(generator: torch.Generator) -> Choose:
    """Return a function that draws an index by the probabilities."""
    return lambda probs: int(torch.multinomial(probs.detach(), 1, generator=generator))


class _Episode:
    """A network while it grows."""

    def __init__(
        self,
        controller: Controller,
        space: Growable,
        layers: Layers,
        allowed: Allowed,
        choose: Choose,
    ) -> None:
        self.controller, self.space, self.layers = controller, space, layers
        self.allowed, self.choose = allowed, choose
        self.steps: list[Step] = []
        self.log_probs: list[Tensor] = []
        self.entropies: list[Tensor] = []
        self.relative: list[float] = []

    def grow_each(
        self, actor: nn.Module, step_of: Callable[[Growable, Layers, Place], Step | None]
    ) -> None:
        """Decide for each layer in order; the budget includes the earlier decisions.

        All probabilities are those of the network before the first decision.
        """
        words = sentence(self.space, self.layers)
        outputs, _ = self.controller.encode([word for word, _ in words])
        logits = actor(outputs).squeeze(1)
        for logit, (_, place) in zip(logits, words, strict=True):
            step = None if place is None else step_of(self.space, self.layers, place)
            if step is not None and self._is_allowed(step):
                more = torch.sigmoid(logit)
                if self._decide(torch.stack((1 - more, more))):
                    self._apply(step)

    def deepen(self) -> None:
        """Decide on stage, layer and kernel of a new layer, if any is allowed."""
        stages = [
            any(self._possible(Place(stage, layer)) for layer in range(len(row)))
            for stage, row in enumerate(self.layers)
        ]
        if not any(stages):
            return
        words = [word for word, _ in sentence(self.space, self.layers)]
        _, state = self.controller.encode(words)
        first = torch.zeros(self.controller.decoder.input_size)
        state = self.controller.decoder(first, state)
        stage = self._choose_among(0, state[0], stages)
        state = self.controller.decoder(self._embed(0, stage), state)
        row = self.layers[stage]
        layers = [bool(self._possible(Place(stage, layer))) for layer in range(len(row))]
        layer = self._choose_among(1, state[0], layers)
        state = self.controller.decoder(self._embed(1, layer), state)
        steps = {step.value: step for step in self._possible(Place(stage, layer), every=True)}
        if len(self.space.stages[stage].kernels) == 1:  # fully connected or dense: no decision
            self._apply(next(iter(steps.values())))
            return
        kernels = [kernel in steps for kernel in self.controller.kernels]
        self._apply(steps[self.controller.kernels[self._choose_among(2, state[0], kernels)]])

    def _possible(self, place: Place, every: bool = False) -> list[Step]:
        """Return the allowed steps after ``place``: all of them, or only the first."""
        steps: list[Step] = []
        for step in deeper_steps(self.space, self.layers, place):
            if self._is_allowed(step):
                steps.append(step)
                if not every:
                    break
        return steps

    def _choose_among(self, decision: int, hidden: Tensor, legal: list[bool]) -> int:
        logits = self.controller.deeper[decision](hidden)[: len(legal)]
        places = torch.tensor([number for number, allowed in enumerate(legal) if allowed])
        return int(places[self._decide(logits[places].softmax(0))])

    def _embed(self, decision: int, choice: int) -> Tensor:
        return self.controller.decided[decision](torch.tensor(choice))

    def _decide(self, probs: Tensor) -> int:
        choice = self.choose(probs)
        self.log_probs.append(probs[choice].log())
        if len(probs) > 1:
            entropy = -torch.special.xlogy(probs, probs).sum()
            self.entropies.append(entropy)
            self.relative.append(entropy.item() / math.log(len(probs)))
        return choice

    def _is_allowed(self, step: Step) -> bool:
        return self.allowed(apply_step(self.space, self.layers, step))

    def _apply(self, step: Step) -> None:
        self.layers = apply_step(self.space, self.layers, step)
        self.steps.append(step)
