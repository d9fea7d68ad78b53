"""The meta-controller of EAS: reads a network word by word and says how to grow it.

Cai et al., AAAI 2018, arXiv:1707.04873, section 3, with the sizes of the paper's code: an embedding
of 16, a bidirectional LSTM of 50 units each way, and two actors on it. Net2Wider decides for each
layer alone, by a sigmoid, whether it gets the next width. Net2Deeper decides in turn, by an LSTM
begun with the encoder's last state, on the stage, the layer and the kernel size of a new layer.
Chains of MBConv have a third one like the first, for the next kernel size of each block.

Decisions that are not possible, or lead to a network that is not allowed (over the budget), are
masked: they are never taken, and have no part in the probability of what is.
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
    deeper_steps,
    larger_step,
    sentence,
    stepped,
    vocabulary,
    wider_step,
)

EMBEDDING, UNITS = 16, 50

Allowed = Callable[[Layers], bool]
"""Whether a network may be made: its predicted latency keeps the budget."""
Choose = Callable[[Tensor], int]
"""Picks one of ``probs [K]``."""


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
        """Return ``[L, 2 units]`` of the layers, and the last state, ``[2 units]`` twice."""
        codes = torch.tensor([self.words[word] for word in words])
        outputs, (hidden, cell) = self.encoder(self.embedding(codes))
        return outputs, (hidden.flatten(), cell.flatten())

    def indifferent(self) -> Controller:
        """Make all that is possible equally likely: EAS with random actions."""
        for head in (self.wider, self.larger, *self.deeper):
            if head is not None:
                nn.init.zeros_(head.weight)  # type: ignore[arg-type]
                nn.init.zeros_(head.bias)  # type: ignore[arg-type]
        return self


class Trajectory(NamedTuple):
    """A network grown from another one, and what its policy gradient needs."""

    layers: Layers
    steps: tuple[Step, ...]
    log_prob: Tensor
    """Of all decisions together; scalar."""
    entropy: Tensor
    """Sum over the decisions, in nats; scalar."""
    relative_entropy: float
    """Mean over the decisions of H(p) / ln K: 1 indifferent, 0 decided; 0 without any."""


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
    """Grow ``start`` by so many actions of each kind: wider, larger kernels, deeper."""
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
    """Return a choice at random, by the probabilities."""
    return lambda probs: int(torch.multinomial(probs.detach(), 1, generator=generator))


class _Episode:
    """One network on its way."""

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
        """Decide for each layer, in order; each decision counts with those before it in the budget.

        All probabilities come from the network as it was.
        """
        words = sentence(self.space, self.layers)
        outputs, _ = self.controller.encode([word for word, _ in words])
        logits = actor(outputs).squeeze(1)
        for logit, (_, place) in zip(logits, words, strict=True):
            step = None if place is None else step_of(self.space, self.layers, place)
            if step is not None and self._may(step):
                more = torch.sigmoid(logit)
                if self._decide(torch.stack((1 - more, more))):
                    self._take(step)

    def deepen(self) -> None:
        """Decide on stage, layer and kernel of a new layer; nothing where none is allowed."""
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
        stage = self._among(0, state[0], stages)
        state = self.controller.decoder(self._embedded(0, stage), state)
        row = self.layers[stage]
        layers = [bool(self._possible(Place(stage, layer))) for layer in range(len(row))]
        layer = self._among(1, state[0], layers)
        state = self.controller.decoder(self._embedded(1, layer), state)
        steps = {step.value: step for step in self._possible(Place(stage, layer), every=True)}
        if len(self.space.stages[stage].kernels) == 1:  # fully connected or dense: no decision
            self._take(next(iter(steps.values())))
            return
        kernels = [kernel in steps for kernel in self.controller.kernels]
        self._take(steps[self.controller.kernels[self._among(2, state[0], kernels)]])

    def _possible(self, place: Place, every: bool = False) -> list[Step]:
        """Return the allowed steps after ``place``; the first of them is enough to know."""
        found: list[Step] = []
        for step in deeper_steps(self.space, self.layers, place):
            if self._may(step):
                found.append(step)
                if not every:
                    break
        return found

    def _among(self, decision: int, hidden: Tensor, legal: list[bool]) -> int:
        logits = self.controller.deeper[decision](hidden)[: len(legal)]
        places = torch.tensor([number for number, one in enumerate(legal) if one])
        return int(places[self._decide(logits[places].softmax(0))])

    def _embedded(self, decision: int, choice: int) -> Tensor:
        return self.controller.decided[decision](torch.tensor(choice))

    def _decide(self, probs: Tensor) -> int:
        choice = self.choose(probs)
        self.log_probs.append(probs[choice].log())
        if len(probs) > 1:
            entropy = -torch.special.xlogy(probs, probs).sum()
            self.entropies.append(entropy)
            self.relative.append(entropy.item() / math.log(len(probs)))
        return choice

    def _may(self, step: Step) -> bool:
        return self.allowed(stepped(self.space, self.layers, step))

    def _take(self, step: Step) -> None:
        self.layers = stepped(self.space, self.layers, step)
        self.steps.append(step)
