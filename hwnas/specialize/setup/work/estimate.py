"""Estimate of the duration of a run, from the speed of a few steps before it begins."""

from __future__ import annotations

from hwnas.report.formatting import seconds
from hwnas.search.plan import JUDGING_IMAGES
from hwnas.search.registry import NO_VALUES, Values, judges, load_strategy
from hwnas.spaces.elastic.space import ElasticSpace
from hwnas.spaces.int8 import in_float
from hwnas.specialize.setup.effort import WorkPlan
from hwnas.specialize.setup.work.cut import FORWARD_SHARE, SEARCH_FORWARDS, cut_line, trainings
from hwnas.specialize.setup.work.minutes import REST, search_epoch_s, turns_of
from hwnas.specialize.setup.work.pace import Clock, Pace, Setting, measure_pace, training_pace
from hwnas.training.images.loader import as_data

MEASURED_S = 0.6
"""Time for measuring the speed; every kind of step is done at least twice."""


def estimate_line(setting: Setting, plan: WorkPlan, at_once: int, clock: Clock) -> str:
    """Measure a few steps, and return one line with the estimated duration and the plan."""
    images = len(setting.dataset.train.labels)
    if isinstance(space := in_float(setting.space), ElasticSpace):
        setting.compute.start()
        data = as_data(setting.dataset.train, setting.dataset, setting.compute)
        image_ms = training_pace(space.original, data, plan.search.tuning, MEASURED_S / 3, clock)
        use = setting.budget_ms / setting.costs.largest_ms
        work_s, what = cut_s(plan, image_ms, use, images, at_once), cut_line(plan, image_ms)
    else:
        pace = measure_pace(setting, plan, MEASURED_S, clock)
        strategy, options = setting.spec.strategy, setting.spec.strategy_options
        judging = min(JUDGING_IMAGES, len(setting.dataset.valid.labels))
        work_s = search_s(strategy, plan, pace, images, at_once, options, judging)
        work_s += training_s(plan, pace, images, at_once)
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
        return epochs * images * pace.training_ms / 1e3
    warmup_s = search.warmup_epochs * images * pace.weight_ms / 1e3
    steps_s = warmup_s + search.search_epochs * search_epoch_s(search, pace, images)
    judged = judged_networks(strategy, plan, images, options) * judging_images
    return steps_s + judged * FORWARD_SHARE * pace.weight_ms / 1e3


def training_s(plan: WorkPlan, pace: Pace, images: int, at_once: int) -> float:
    """Return the time of the trainings after the search."""
    turns = turns_of(plan.effort, at_once)
    return turns * plan.training.epochs * images * pace.training_ms / 1e3


def cut_s(plan: WorkPlan, image_ms: float, use: float, images: int, at_once: int) -> float:
    """Return the time of the tuning, the search and the members' trainings, see
    `hwnas.specialize.setup.work.cut.timed_cut_plan`."""
    members = trainings(plan.effort) / at_once * (use + FORWARD_SHARE)
    epochs = plan.search.tuning.epochs + members * plan.training.epochs
    return (epochs * images + SEARCH_FORWARDS * FORWARD_SHARE) * image_ms / 1e3


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
    if not search.trains_supernet:
        searched = "no search"
    elif pace.weight_ms == 0:
        searched = f"{search.children} networks of {search.child_epochs} epochs in the search"
    if judged:
        searched += f", {judged} networks judged on the supernet"
    return (
        f"{text} images/s measured; {searched}, then {networks} "
        f"network{'s' * (networks > 1)} trained for {plan.training.epochs} epochs"
    )
