"""A plan for a given time: epochs and networks from the measured speed of the steps.

The time limits the plan but does not stop the run: the same plan gives the same networks, even if
the machine becomes slower after the measurement.
"""

from __future__ import annotations

import math

from msgspec.structs import replace

from hwnas.search.plan import SearchPlan
from hwnas.specialize.setup.effort import EFFORTS, Effort, WorkPlan
from hwnas.specialize.setup.work.pace import Pace
from hwnas.training.plan import TrainingPlan, one_cycle_plan

WARM_UP, SEARCH, REST = 0.20, 0.25, 0.10
"""Shares of the time for the warm-up, the search, and for export and measuring; trainings have what
is left."""
MEASURING = 0.03
"""Share of the time for measuring the speed."""
MIN_TRAINING_EPOCHS, MIN_TRAINING_STEPS = 3, 500
"""Least training of a network: the number of networks is reduced before their trainings become
shorter than both."""
MIN_CHILDREN = 4
EVALUATED = 0.96
"""Share of a training's time that its epochs take; the rest is the evaluation at the end."""


def timed_plan(
    plan: WorkPlan,
    pace: Pace,
    images: int,
    time_s: float,
    trainings_at_once: int,
    judges: bool = False,
) -> WorkPlan:
    """Return a plan that takes about ``time_s`` for a number of training images.

    A strategy that ``judges`` networks spends half of the search on their evaluation
    (`JUDGING_SHARE`). Batches, learning rates and augmentation are those of ``plan``. The most
    epochs are those of ``plan`` if it is a paper's, else those of its effort (`Effort.max_epochs`).
    """
    if not plan.search.trains_supernet:
        search, search_s = plan.search, 0.0
    elif pace.weight_ms == 0:
        search, search_s = _timed_children(plan, pace, images, time_s, trainings_at_once)
    else:
        share = 0.5 if judges else 1.0
        search, search_s = _timed_search(plan, pace, images, share * time_s)
        search_s /= share
    left_s = (1 - REST) * time_s - search_s
    epoch_s = images * pace.training_ms / 1e3
    training, limit = plan.training, most_training_epochs(plan)
    steps = max(1, images // training.batch_size)
    least = min(limit, max(MIN_TRAINING_EPOCHS, math.ceil(MIN_TRAINING_STEPS / steps)))
    effort = fitting_effort(plan.effort, left_s / (least * epoch_s), trainings_at_once)
    turns = turns_of(effort, trainings_at_once)
    epochs = _between(1, left_s / (turns * epoch_s), limit)
    return WorkPlan(effort, search, with_epochs(training, epochs, plan.effort))


def training_epochs(time_s: float, image_ms: float, images: int) -> int:
    """Return the epochs of a single training that takes ``time_s`` with its evaluation."""
    limit = EFFORTS["standard"].max_epochs
    return _between(1, EVALUATED * time_s / (images * image_ms / 1e3), limit)


def fitting_effort(effort: Effort, turns: float, at_once: int) -> Effort:
    """Return an effort with as many networks as can be trained in a number of turns; baselines are
    left out first."""
    networks = effort.trained + effort.baselines
    while networks > 1 and math.ceil(networks / at_once) > turns:
        networks -= 1
    baselines = max(0, networks - effort.trained)
    return replace(effort, trained=networks - baselines, baselines=baselines)


def turns_of(effort: Effort, at_once: int) -> int:
    """Return the number of trainings that are done one after another."""
    return math.ceil((effort.trained + effort.baselines) / at_once)


def with_epochs(plan: TrainingPlan, epochs: int, effort: Effort) -> TrainingPlan:
    """Return the plan for another number of epochs; a paper's keeps its warm-up."""
    return replace(plan, epochs=epochs) if effort.is_papers else one_cycle_plan(plan, epochs)


def most_training_epochs(plan: WorkPlan) -> int:
    return plan.training.epochs if plan.effort.is_papers else plan.effort.max_epochs


def search_epoch_s(plan: SearchPlan, pace: Pace, images: int) -> float:
    """Return the time of an epoch of the search, after the warm-up."""
    return images * (pace.weight_ms + pace.arch_ms / plan.weight_steps) / 1e3


def _timed_search(
    plan: WorkPlan, pace: Pace, images: int, time_s: float
) -> tuple[SearchPlan, float]:
    """Return the plan of a search and the time that it takes."""
    search, half = plan.search, plan.effort.max_epochs // 2
    warm_up_limit, limit = half, half
    if plan.effort.is_papers:
        warm_up_limit, limit = search.warmup_epochs, search.search_epochs
    warm_up_epoch_s = images * pace.weight_ms / 1e3
    warm_up = _between(min(1, warm_up_limit), WARM_UP * time_s / warm_up_epoch_s, warm_up_limit)
    left_s = (WARM_UP + SEARCH) * time_s - warm_up * warm_up_epoch_s
    if 0 < warm_up == warm_up_limit:
        left_s = SEARCH * time_s  # what the warm-up can't use goes to the trainings
    each_s = search_epoch_s(search, pace, images)
    epochs = _between(1, left_s / each_s, limit)
    timed = replace(
        search,
        warmup_epochs=warm_up,
        search_epochs=epochs,
        first_arch_epoch=min(search.first_arch_epoch, epochs - 1),
    )
    return timed, warm_up * warm_up_epoch_s + epochs * each_s


def _timed_children(
    plan: WorkPlan, pace: Pace, images: int, time_s: float, at_once: int
) -> tuple[SearchPlan, float]:
    """Return the plan of a search that trains networks, and the time that it takes."""
    search, each_s = plan.search, images * pace.training_ms / 1e3
    start_s = max(1, search.warmup_epochs) * each_s
    if start_s > WARM_UP * time_s:
        search = replace(search, warmup_epochs=_between(1, WARM_UP * time_s / each_s, 10**6))
        start_s = search.warmup_epochs * each_s
    left_s = (WARM_UP + SEARCH) * time_s - start_s
    child_s = search.child_epochs * each_s / at_once
    children = _between(MIN_CHILDREN, left_s / child_s, search.children)
    return replace(search, children=children), start_s + children * child_s


def _between(least: int, value: float, most: int) -> int:
    return max(least, min(most, round(value)))
