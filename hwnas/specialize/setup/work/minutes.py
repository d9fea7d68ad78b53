"""A plan for a given time: epochs and networks from the measured speed of the steps.

Epochs of a short plan are parts of a pass over the images, so that whole epochs fill the time. The
time limits the plan but does not stop the run: the same plan gives the same networks, even if the
machine becomes slower after the measurement.
"""

from __future__ import annotations

import math
from typing import NamedTuple

from msgspec.structs import replace

from hwnas.search.plan import JUDGING_IMAGES, SearchPlan
from hwnas.specialize.setup.effort import Effort, WorkPlan
from hwnas.specialize.setup.work.pace import Pace
from hwnas.training.evaluation import RECALIBRATION_IMAGES
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
FORWARD_SHARE = 1 / 3
"""Time of a forward pass, as a share of the time of a training step."""
WHOLE_EPOCHS = 10
"""Passes over the images from which on each epoch is a whole pass."""
MIN_STEPS = 10
"""Fewest steps of a training, unless a pass over the images has less."""
TOLERANCE = 0.15
"""Largest difference between the time of a plan and the given time, as a share of the latter, that
is not mentioned."""


def misfit(planned_s: float, time_s: float) -> str:
    """Return an addition to the line of a plan that takes another time than the given one; empty if
    it doesn't."""
    minutes = math.ceil(planned_s / 60)
    if planned_s > (1 + TOLERANCE) * time_s:
        return f" (the shortest plan takes about {minutes} min)"
    if planned_s < (1 - TOLERANCE) * time_s:
        return f" (about {minutes} min are enough, more epochs would overfit)"
    return ""


class Epochs(NamedTuple):
    """A number of epochs, and the images of each; 0 stands for all images."""

    number: int
    images: int = 0

    @classmethod
    def of(cls, passes: float, images: int, batch_size: int) -> Epochs:
        """Return the fewest epochs that show the images about ``passes`` times."""
        if passes >= WHOLE_EPOCHS:
            return cls(round(passes))
        steps = max(1, images // batch_size)
        planned = max(1, min(steps, MIN_STEPS), round(passes * steps))
        number = math.ceil(planned / steps)
        each = round(planned / number)
        return cls(number, 0 if each == steps else each * batch_size)


def timed_plan(
    plan: WorkPlan,
    pace: Pace,
    images: int,
    time_s: float,
    trainings_at_once: int,
    judging_images: int = 0,
    valid_images: int = 0,
) -> WorkPlan:
    """Return a plan that takes about ``time_s`` for a number of training and validation images.

    A strategy that evaluates each network on ``judging_images`` spends up to half of the search on
    these evaluations (`JUDGING_SHARE`). Batches, learning rates and augmentation are those of
    ``plan``. The most epochs are those of ``plan`` if it is a paper's, else those of its effort
    (`Effort.max_epochs`).
    """
    if not plan.search.trains_supernet:
        search, search_s = plan.search, 0.0
    elif pace.weight_ms == 0:
        search, search_s = _timed_children(plan, pace, images, time_s, trainings_at_once)
    else:
        search = _timed_search(plan, pace, images, (0.5 if judging_images else 1.0) * time_s)
        search_s = supernet_s(search, pace, images)
        search_s += judging_s(search, pace, images, judging_images)
    left_s = (1 - REST) * time_s - search_s
    training, limit = plan.training, most_training_epochs(plan)
    steps = max(1, images // training.batch_size)
    least = min(limit, max(MIN_TRAINING_EPOCHS, math.ceil(MIN_TRAINING_STEPS / steps)))
    shortest = with_epochs(training, Epochs(least), plan.effort)
    shortest_s = training_s(shortest, pace.training_ms, images, valid_images)
    effort = fitting_effort(plan.effort, left_s / shortest_s, trainings_at_once)
    each_s = left_s / turns_of(effort, trainings_at_once)
    passes = training_passes(training, each_s, pace.training_ms, images, valid_images)
    epochs = Epochs.of(min(passes, limit), images, training.batch_size)
    return WorkPlan(effort, search, with_epochs(training, epochs, plan.effort))


def training_s(plan: TrainingPlan, image_ms: float, images: int, valid_images: int) -> float:
    """Return the time of a training with its evaluations, where a step takes so long an image."""
    steps = plan.epochs * plan.images_shown(images)
    return image_ms / 1e3 * (steps + FORWARD_SHARE * _forwards(plan, images, valid_images))


def training_passes(
    plan: TrainingPlan, time_s: float, image_ms: float, images: int, valid_images: int
) -> float:
    """Return how often a training of ``time_s`` can show the images, see `training_s`."""
    shown = 1e3 * time_s / image_ms
    alone = shown - FORWARD_SHARE * _forwards(replace(plan, epochs=0), images, valid_images)
    each = images + (FORWARD_SHARE * valid_images if plan.patience else 0)
    return max(0.0, alone / each)


def _forwards(plan: TrainingPlan, images: int, valid_images: int) -> int:
    """Return the images of forward passes outside the steps."""
    # with patience a network is judged before the first epoch and after each; always at its end
    judged = plan.epochs + 2 if plan.patience else 1
    fitted = images if plan.probe else 0
    recalibrated = 0 if plan.frozen_norms else min(images, RECALIBRATION_IMAGES)
    return judged * valid_images + fitted + recalibrated


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


def with_epochs(plan: TrainingPlan, epochs: Epochs, effort: Effort) -> TrainingPlan:
    """Return the plan for other epochs; a paper's keeps its warm-up."""
    plan = replace(plan, epoch_images=epochs.images)
    if effort.is_papers:
        return replace(plan, epochs=epochs.number)
    return one_cycle_plan(plan, epochs.number)


def most_training_epochs(plan: WorkPlan) -> int:
    return plan.training.epochs if plan.effort.is_papers else plan.effort.max_epochs


def supernet_s(plan: SearchPlan, pace: Pace, images: int) -> float:
    """Return the time of the steps of a supernet's warm-up and search."""
    warm_up_ms = plan.warmup_epochs * plan.images_shown(images) * pace.weight_ms
    return warm_up_ms / 1e3 + plan.search_epochs * search_epoch_s(plan, pace, images)


def search_epoch_s(plan: SearchPlan, pace: Pace, images: int) -> float:
    """Return the time of an epoch of the search, after the warm-up."""
    return plan.images_shown(images) * (pace.weight_ms + pace.arch_ms / plan.weight_steps) / 1e3


def judging_s(plan: SearchPlan, pace: Pace, images: int, judging_images: int) -> float:
    """Return the time in which networks are judged on the supernet, by so many images each."""
    judged = plan.queries(images) * min(judging_images, JUDGING_IMAGES)
    return judged * FORWARD_SHARE * pace.weight_ms / 1e3


def _timed_search(plan: WorkPlan, pace: Pace, images: int, time_s: float) -> SearchPlan:
    """Return the plan of a supernet's warm-up and search."""
    search, half = replace(plan.search, epoch_images=0), plan.effort.max_epochs // 2
    warm_up_limit, limit = half, half
    if plan.effort.is_papers:
        warm_up_limit, limit = search.warmup_epochs, search.search_epochs
    pass_s, search_pass_s = images * pace.weight_ms / 1e3, search_epoch_s(search, pace, images)
    share = SEARCH if warm_up_limit else WARM_UP + SEARCH
    passes = min(warm_up_limit, WARM_UP * time_s / pass_s), share * time_s / search_pass_s
    # warm-up and search have epochs of the same size, which fit the shorter one
    shorter = Epochs.of(min(each for each in passes if each > 0), images, search.batch_size)
    search = replace(search, epoch_images=shorter.images)
    parts = images / search.images_shown(images)  # of a pass
    warm_up_limit, limit = round(parts * warm_up_limit), round(parts * limit)
    warm_up = _between(min(1, warm_up_limit), parts * passes[0], warm_up_limit)
    left_s = (WARM_UP + SEARCH) * time_s - warm_up * pass_s / parts
    if 0 < warm_up == warm_up_limit:
        left_s = SEARCH * time_s  # what the warm-up can't use goes to the trainings
    epochs = _between(1, left_s / search_epoch_s(search, pace, images), limit)
    return replace(
        search,
        warmup_epochs=warm_up,
        search_epochs=epochs,
        first_arch_epoch=min(search.first_arch_epoch, epochs - 1),
    )


def _timed_children(
    plan: WorkPlan, pace: Pace, images: int, time_s: float, at_once: int
) -> tuple[SearchPlan, float]:
    """Return the plan of a search that trains networks, and the time that it takes."""
    search, all_s = plan.search, (WARM_UP + SEARCH) * time_s
    pass_s, child_passes = images * pace.training_ms / 1e3, search.child_epochs / at_once
    # an epoch of the start network fits the warm-up's time, and the fewest children the search's
    fitting = min(WARM_UP, SEARCH / (MIN_CHILDREN * child_passes)) * time_s / pass_s
    if fitting < 1:
        epoch = Epochs.of(fitting, images, search.batch_size)
        search = replace(search, epoch_images=epoch.images)
    each_s = search.images_shown(images) * pace.training_ms / 1e3
    start_s = max(1, search.warmup_epochs) * each_s
    if start_s > WARM_UP * time_s:
        search = replace(search, warmup_epochs=_between(1, WARM_UP * time_s / each_s, 10**6))
        start_s = search.warmup_epochs * each_s
    child_s = search.child_epochs * each_s / at_once
    children = _between(MIN_CHILDREN, (all_s - start_s) / child_s, search.children)
    return replace(search, children=children), start_s + children * child_s


def _between(least: int, value: float, most: int) -> int:
    return max(least, min(most, round(value)))
