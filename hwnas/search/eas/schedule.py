"""What EAS does when and how far: episodes, trainings, growth to a budget and back under it."""

from __future__ import annotations

from collections.abc import Callable
from random import Random
from typing import NamedTuple

from hwnas.errors import BudgetError
from hwnas.search.plan import SearchPlan
from hwnas.spaces.grown.space import Layers, Place
from hwnas.spaces.grown.steps import (
    Growable,
    Step,
    deeper_steps,
    larger_step,
    smaller_steps,
    stepped,
    wider_step,
)
from hwnas.training.loop import TrainingPlan

CHILDREN = 10
"""Of an episode, at most."""
PHASES = 4
"""How often the network to grow from is chosen anew in a search."""
WITHIN = 0.94
"""Networks are grown up to this share of the budget: predictions are a few percent off, and what is
handed on has to keep the budget when measured."""
GROWABLE = 0.8
"""A network over this share of the budget is not grown from where another one is left."""
ROOM = 0.7
"""A start over the budget is made smaller until it takes this share of it: the rest is to grow."""

WIDENING = 0.8
"""Share of the steps that fill a budget which widen a layer or its kernel, as long as one can be.
"""

Price = Callable[[Layers], float]
"""Predicted latency of a whole network, ms."""


class Schedule(NamedTuple):
    """How many networks are trained when."""

    children: int
    """Of an episode."""
    episodes: int
    """Of the first round."""

    @classmethod
    def of(cls, plan: SearchPlan) -> Schedule:
        children = max(1, min(CHILDREN, plan.children // PHASES))
        return cls(children, max(1, plan.children // children))

    def end(self, rounds: int) -> int:
        """Return the episodes up to the end of a round; later rounds are half as long."""
        return self.episodes + (rounds - 1) * max(1, self.episodes // 2)

    @property
    def phase(self) -> int:
        """Episodes that grow from the same network."""
        return max(1, self.episodes // PHASES)


def child_plan(plan: SearchPlan, epochs: int) -> TrainingPlan:
    """Return the training of the paper's code: SGD with Nesterov momentum, from 0.02 along a cosine
    to 0, without label smoothing and dropout."""
    return TrainingPlan(
        epochs=epochs,
        batch_size=plan.batch_size,
        peak_learning_rate=0.02,
        rise=0.0,
        weight_decay=1e-4,
        label_smoothing=0.0,
        dropout=0.0,
        flip=plan.flip,
    )


def shrinking(
    space: Growable, layers: Layers, price: Price, budget_ms: float, allowed: bool
) -> list[Step]:
    """Return the steps from a network over the budget to one with room to grow, the greatest
    saving first. Raises `BudgetError` where it is not ``allowed``, or not enough."""
    said = (
        f"the network of {space.name} to grow from takes {price(layers):.4g} ms (predicted), over "
        f"the budget of {budget_ms:.4g} ms"
    )
    if not allowed:
        raise BudgetError(f"{said}, and the option shrink=false forbids making it smaller")
    steps: list[Step] = []
    while price(layers) > ROOM * budget_ms:
        options = list(smaller_steps(space, layers))
        if not options:
            if price(layers) <= WITHIN * budget_ms:
                break
            raise BudgetError(f"{said}, and so does the smallest that it can be made")
        now = {step: price(stepped(space, layers, step)) for step in options}
        best = min(options, key=now.__getitem__)
        layers = stepped(space, layers, best)
        steps.append(best)
    return steps


def filling(
    space: Growable, layers: Layers, price: Price, low_ms: float, high_ms: float, rng: Random
) -> list[Step]:
    """Return random steps of growth until a network takes ``low_ms``; none leads over ``high_ms``.

    Most of them widen: a plain network of many thin layers hardly trains. They end below ``low_ms``
    where nothing more fits.
    """
    steps: list[Step] = []
    while price(layers) < low_ms:
        places = [Place(n, m) for n, row in enumerate(layers) for m in range(len(row))]
        deep = [step for at in places for step in deeper_steps(space, layers, at)]
        wide = [
            step
            for at in places
            for step in (wider_step(space, layers, at), larger_step(space, layers, at))
            if step
        ]
        rng.shuffle(deep)
        rng.shuffle(wide)
        options = [*wide, *deep] if rng.random() < WIDENING else [*deep, *wide]
        grown = ((one, stepped(space, layers, one)) for one in options)
        fitting = next((pair for pair in grown if price(pair[1]) <= high_ms), None)
        if fitting is None:
            break
        steps.append(fitting[0])
        layers = fitting[1]
    return steps
