"""The schedule of EAS: episodes, trainings, growth up to the budget and shrinking below it."""

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
    apply_step,
    deeper_steps,
    larger_step,
    smaller_steps,
    wider_step,
)
from hwnas.training.plan import TrainingPlan

MAX_CHILDREN = 10
"""Most networks that an episode trains."""
PHASES = 4
"""Number of times that a search chooses a new network to grow from."""
USABLE_SHARE = 0.94
"""Networks grow up to this share of the budget: predictions are a few percent off, and the final
network must keep the budget when it is measured."""
MAX_PARENT_SHARE = 0.8
"""A network over this share of the budget is no parent, unless there is no other."""
SHRUNK_SHARE = 0.7
"""A start network over the budget is shrunk to this share of it, which leaves room to grow."""

WIDEN_PROBABILITY = 0.8
"""Probability that a step towards the budget widens a layer or its kernel, if possible."""

PredictMs = Callable[[Layers], float]
"""Predicted latency of a whole network in ms."""


class Schedule(NamedTuple):
    """The number of networks that are trained, and when."""

    children: int
    """Networks per episode."""
    episodes: int
    """Episodes of the first round."""

    @classmethod
    def of(cls, plan: SearchPlan) -> Schedule:
        children = max(1, min(MAX_CHILDREN, plan.children // PHASES))
        return cls(children, max(1, plan.children // children))

    def end(self, rounds: int) -> int:
        """Return the episodes up to the end of a round; later rounds are half as long."""
        return self.episodes + (rounds - 1) * max(1, self.episodes // 2)

    @property
    def phase(self) -> int:
        """Episodes that grow from the same network."""
        return max(1, self.episodes // PHASES)


def child_plan(plan: SearchPlan, epochs: int) -> TrainingPlan:
    """Return the training of the code of the paper: SGD with Nesterov momentum, a cosine from 0.02
    to 0, no label smoothing and no dropout."""
    return TrainingPlan(
        epochs=epochs,
        batch_size=plan.batch_size,
        epoch_images=plan.epoch_images,
        peak_learning_rate=0.02,
        warmup_epochs=0.0,
        weight_decay=1e-4,
        label_smoothing=0.0,
        dropout=0.0,
        augmentation=plan.augmentation,
        accumulate=plan.accumulate,
    )


def shrink_steps(
    space: Growable, layers: Layers, predict_ms: PredictMs, budget_ms: float, allowed: bool
) -> list[Step]:
    """Return the steps that shrink a network over the budget until it has room to grow, greatest
    saving first. Raises `BudgetError` if this is not ``allowed`` or cannot reach the budget."""
    problem = (
        f"the start network of {space.name} takes {predict_ms(layers):.4g} ms (predicted), over "
        f"the budget of {budget_ms:.4g} ms"
    )
    if not allowed:
        raise BudgetError(f"{problem}, and the option shrink=false forbids making it smaller")
    steps: list[Step] = []
    while predict_ms(layers) > SHRUNK_SHARE * budget_ms:
        options = list(smaller_steps(space, layers))
        if not options:
            if predict_ms(layers) <= USABLE_SHARE * budget_ms:
                break
            raise BudgetError(f"{problem}, and so does the smallest network that it shrinks to")
        latency_ms = {step: predict_ms(apply_step(space, layers, step)) for step in options}
        best = min(options, key=latency_ms.__getitem__)
        layers = apply_step(space, layers, best)
        steps.append(best)
    return steps


def growth_steps(
    space: Growable,
    layers: Layers,
    predict_ms: PredictMs,
    low_ms: float,
    high_ms: float,
    rng: Random,
) -> list[Step]:
    """Return random steps that grow a network to at least ``low_ms``, never over ``high_ms``.

    Most of them widen: plain networks of many thin layers are hard to train. They end below
    ``low_ms`` if no further step fits.
    """
    steps: list[Step] = []
    while predict_ms(layers) < low_ms:
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
        options = [*wide, *deep] if rng.random() < WIDEN_PROBABILITY else [*deep, *wide]
        grown = ((step, apply_step(space, layers, step)) for step in options)
        fitting = next((pair for pair in grown if predict_ms(pair[1]) <= high_ms), None)
        if fitting is None:
            break
        steps.append(fitting[0])
        layers = fitting[1]
    return steps
