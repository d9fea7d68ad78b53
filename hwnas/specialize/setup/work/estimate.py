"""Estimate of the duration of a run, from the speed of a few steps before it begins."""

from __future__ import annotations

from hwnas.report.formatting import seconds
from hwnas.search.plan import JUDGING_IMAGES
from hwnas.search.registry import NO_VALUES, Values, judges, load_strategy
from hwnas.spaces.elastic.space import ElasticSpace
from hwnas.spaces.int8 import in_float
from hwnas.specialize.setup.effort import WorkPlan
from hwnas.specialize.setup.work.cut import CutWork, cut_line, epochs_text, of_images
from hwnas.specialize.setup.work.minutes import (
    REST,
    judging_s,
    supernet_s,
    training_s,
    turns_of,
)
from hwnas.specialize.setup.work.pace import Clock, Pace, Setting, measure_pace, training_pace
from hwnas.training.images.loader import as_data

MEASURED_S = 0.6
"""Time for measuring the speed; every kind of step is done at least twice."""


def estimate_line(setting: Setting, plan: WorkPlan, at_once: int, clock: Clock) -> str:
    """Measure a few steps, and return one line with the estimated duration and the plan."""
    if isinstance(space := in_float(setting.space), ElasticSpace):
        setting.compute.start()
        data = as_data(setting.dataset.train, setting.dataset, setting.compute)
        image_ms = training_pace(space.original, data, plan.search.tuning, MEASURED_S / 3, clock)
        work_s = CutWork.of(setting, image_ms, at_once).seconds(plan)
        what = cut_line(plan, image_ms)
    else:
        pace = measure_pace(setting, plan, MEASURED_S, clock)
        strategy, options = setting.spec.strategy, setting.spec.strategy_options
        images, valid_images = (
            len(part.labels) for part in (setting.dataset.train, setting.dataset.valid)
        )
        judging = min(JUDGING_IMAGES, valid_images)
        work_s = search_s(strategy, plan, pace, images, at_once, options, judging)
        work_s += trainings_s(plan, pace, images, at_once, valid_images)
        what = plan_line(plan, pace, judged_networks(strategy, plan, images, options))
    return f"about {seconds(work_s / (1 - REST))} from here, as fast as the first steps: {what}"


def search_s(
    strategy: str,
    plan: WorkPlan,
    pace: Pace,
    images: int,
    at_once: int,
    options: Values = NO_VALUES,
    judging_images: int = JUDGING_IMAGES,
) -> float:
    """Return the time of the search by a strategy with options, which evaluates each network on a
    number of images."""
    search = plan.search
    if not search.trains_supernet:
        return 0.0
    if load_strategy(strategy).traits.own_loop:
        epochs = max(1, search.warmup_epochs) + search.children * search.child_epochs / at_once
        return epochs * search.images_shown(images) * pace.training_ms / 1e3
    judged = judging_images if judges(strategy, options) else 0
    return supernet_s(search, pace, images) + judging_s(search, pace, images, judged)


def trainings_s(
    plan: WorkPlan, pace: Pace, images: int, at_once: int, valid_images: int = 0
) -> float:
    """Return the time of the trainings after the search."""
    each_s = training_s(plan.training, pace.training_ms, images, valid_images)
    return turns_of(plan.effort, at_once) * each_s


def judged_networks(strategy: str, plan: WorkPlan, images: int, options: Values = NO_VALUES) -> int:
    """Return the number of networks that a strategy evaluates on its supernet; 0 for other
    strategies."""
    return plan.search.queries(images) if judges(strategy, options) else 0


def plan_line(plan: WorkPlan, pace: Pace, judged: int = 0) -> str:
    """Return one line with the speed of the steps and the plan.

    ``judged`` is the number of networks that are evaluated on the supernet.
    """
    speeds = {
        "weight steps": pace.weight_ms,
        "architecture steps": pace.arch_ms,
        "training": pace.training_ms,
    }
    text = ", ".join(f"{1e3 / ms:.3g} ({name})" for name, ms in speeds.items() if ms)
    search, networks = plan.search, plan.effort.trained + plan.effort.baselines
    searched = f"{search.warmup_epochs} + {search.search_epochs} epochs of search"
    searched += of_images(search.epoch_images)
    if not search.trains_supernet:
        searched = "no search"
    elif pace.weight_ms == 0:
        searched = f"{search.children} networks of {search.child_epochs} epochs in the search"
    if judged:
        searched += f", {judged} networks judged on the supernet"
    return (
        f"{text} images/s measured; {searched}, then {networks} "
        f"network{'s' * (networks > 1)} trained for {epochs_text(plan.training)}"
    )
