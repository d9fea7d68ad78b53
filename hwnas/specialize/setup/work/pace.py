"""Speed of the steps of a search and of a training, measured on a run's own images."""

from __future__ import annotations

import time
from collections.abc import Callable
from contextlib import closing, suppress
from random import Random
from typing import NamedTuple, cast

import msgspec
import torch
from torch import Tensor

from hwnas.architecture.architecture import Architecture
from hwnas.data.datasets import Dataset
from hwnas.latency_models.cost import Costs
from hwnas.nn.auxiliary import trainee
from hwnas.nn.build import build
from hwnas.search.plan import SearchPlan
from hwnas.search.registry import load_strategy, parse_options
from hwnas.search.strategy import SearchContext, SteppedStrategy, Strategy
from hwnas.spaces.dependent import as_dependent
from hwnas.spaces.int8 import in_float
from hwnas.spaces.space import SearchSpace
from hwnas.specialize.setup.device import training_threads
from hwnas.specialize.setup.effort import WorkPlan
from hwnas.specialize.setup.start.network import Start
from hwnas.specialize.spec import RunSpec
from hwnas.training.compute import Compute
from hwnas.training.images.augment import NO_AUGMENTATION
from hwnas.training.images.batches import Batches
from hwnas.training.images.loader import Data, as_data
from hwnas.training.log import Progress
from hwnas.training.loop import train
from hwnas.training.plan import TrainingPlan
from hwnas.training.seeds import seeded

MEASURED_RATE = 1e-3
"""Learning rate of the steps that are timed; their weights are discarded."""
RANDOM_NETWORKS = 64
"""Number of random networks; the one whose latency is nearest to the budget is timed."""

Clock = Callable[[], float]


class Pace(msgspec.Struct, frozen=True, kw_only=True):
    """Time that each kind of step takes for an image."""

    weight_ms: float
    """Time of a step of the supernet's weights; 0 if the search has no such steps."""
    arch_ms: float
    """Time of a step of the architecture parameters, per image of a weight step's batch; 0 if the
    search has none."""
    training_ms: float
    """Time of a training step of a network, alone on its device, with the threads that it has when
    others run, too."""


class Setting(NamedTuple):
    """The setting of a search and its trainings: device, data, space and costs."""

    spec: RunSpec
    dataset: Dataset
    space: SearchSpace
    costs: Costs
    budget_ms: float
    compute: Compute
    start: Start | None = None
    """The trained network that is cut, if there is one."""
    budgets: int = 1
    """Targets and budgets that share one supernet, or one tuned network."""


def measure_pace(
    setting: Setting, plan: WorkPlan, limit_s: float, clock: Clock = time.perf_counter
) -> Pace:
    """Measure the speed of each kind of step for a third of ``limit_s`` each, or two steps."""
    data, compute = setting.dataset, setting.compute
    compute.start()
    train_data, valid_data = (as_data(part, data, compute) for part in (data.train, data.valid))
    weight_ms = arch_ms = 0.0
    own_loop = load_strategy(setting.spec.strategy).traits.own_loop
    if not own_loop:
        strategy = begin_search(setting, plan.effort.arch_learning_rate, plan.search.accumulate)
        weight_ms, arch_ms = search_pace(
            cast(SteppedStrategy, strategy),
            train_data,
            valid_data,
            plan.search,
            limit_s / 3,
            clock,
        )
    networks = plan.effort.trained + plan.effort.baselines
    # the networks of a search's own loop are trained with a thread each
    threads = 1 if own_loop else training_threads(data.input_shape[1], networks)
    msgspec.structs.replace(compute, threads=threads).start()
    training_ms = training_pace(
        typical_network(setting), train_data, plan.training, limit_s / 3, clock
    )
    compute.start()
    return Pace(weight_ms=weight_ms, arch_ms=arch_ms, training_ms=training_ms)


def begin_search(setting: Setting, arch_learning_rate: float, accumulate: int = 1) -> Strategy:
    """Return a search whose steps are only timed."""
    spec = setting.spec
    context = SearchContext(
        space=in_float(setting.space),
        costs=setting.costs,
        budget_ms=setting.budget_ms,
        generator=seeded(spec.seed, "paths"),
        arch_learning_rate=arch_learning_rate,
        share_weights=spec.share_weights,
        objective=spec.objective,
        options=parse_options(spec.strategy, spec.strategy_options),
        compute=setting.compute,
        accumulate=accumulate,
    )
    return load_strategy(spec.strategy).begin(context)


def typical_network(setting: Setting) -> Architecture:
    """Return a network whose predicted latency is near the budget."""
    space, costs, rng = in_float(setting.space), setting.costs, Random(0)
    genotypes = [space.default]
    if as_dependent(space) is None:
        genotypes += [space.random(rng) for _ in range(RANDOM_NETWORKS)]
    nearest = min(
        genotypes, key=lambda each: abs(costs.network_ms(each.choices) - setting.budget_ms)
    )
    return space.architecture(nearest)


def search_pace(
    strategy: SteppedStrategy,
    train_data: Data,
    valid_data: Data,
    plan: SearchPlan,
    limit_s: float,
    clock: Clock,
) -> tuple[float, float]:
    """Return the time of weight and architecture steps in ms per image, each measured for
    ``limit_s``."""
    batches = Batches(train_data, plan.batch_size, plan.augmentation, 0)
    valid_batches = Batches(valid_data, plan.arch_images, NO_AUGMENTATION, 0)
    strategy.begin_epoch(False)
    with closing(batches.from_step(0)) as source, closing(valid_batches.from_step(0)) as valid:

        def weight_step() -> Tensor:
            return strategy.weight_step(next(source), MEASURED_RATE).loss

        def arch_step() -> Tensor | None:
            result = strategy.architecture_step(next(valid))
            return None if result is None else result.loss

        weight_s = step_s(weight_step, limit_s, clock)
        arch_s = step_s(arch_step, limit_s, clock)
    # of an architecture step too for an image of the weight step that it follows
    return 1e3 * weight_s / batches.batch_size, 1e3 * arch_s / batches.batch_size


def step_s(step: Callable[[], Tensor | None], limit_s: float, clock: Clock) -> float:
    """Return the mean time of a step that is repeated for ``limit_s``, without the first.

    The loss is read after 1, 2, 4, … steps, so that the host rarely waits for a GPU. The time is 0
    if the step returns ``None``, as it does nothing.
    """
    first = step()
    if first is None:
        return 0.0
    first.item()
    start, count, number = clock(), 0, 1
    while True:
        losses = [step() for _ in range(number)]
        count, number = count + number, 2 * number
        if losses[-1] is not None:
            losses[-1].item()
        elapsed_s = clock() - start
        if 2 * elapsed_s >= limit_s:  # as many steps again would take too long
            return elapsed_s / count


class _Measured(Exception):
    """Raised to end a training that is only timed."""


def training_pace(
    architecture: Architecture, data: Data, plan: TrainingPlan, limit_s: float, clock: Clock
) -> float:
    """Return the time of training steps in ms per image, measured for ``limit_s``."""
    torch.manual_seed(0)
    network = build(architecture, plan.dropout)
    trained = data.compute.place(trainee(network, architecture, plan.auxiliary))
    times: list[tuple[int, float]] = []

    def on_progress(progress: Progress) -> None:
        times.append((progress.step, clock()))
        if len(times) > 1 and times[-1][1] - times[0][1] >= limit_s:
            raise _Measured

    slow = msgspec.structs.replace(
        plan,
        epochs=10**6,
        peak_learning_rate=MEASURED_RATE,
        probe=False,
        patience=0,
        small_share=0.0,
    )
    with suppress(_Measured):
        train(trained, data, slow, 0, on_progress=on_progress)
    steps, elapsed_s = times[-1][0] - times[0][0], times[-1][1] - times[0][1]
    return 1e3 * elapsed_s / (steps * min(plan.batch_size, len(data.labels)))
