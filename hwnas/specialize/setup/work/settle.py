"""The work of a run: planned once, and the same when the run is resumed."""

from __future__ import annotations

import time
from pathlib import Path

from msgspec.structs import replace

from hwnas.console import Console
from hwnas.files import read_json, write_json
from hwnas.processes import cores
from hwnas.search.plan import JUDGING_IMAGES
from hwnas.search.registry import judges, load_strategy
from hwnas.spaces.elastic.space import ElasticSpace
from hwnas.spaces.int8 import in_float
from hwnas.specialize.setup.device import child_gpus
from hwnas.specialize.setup.effort import WorkPlan
from hwnas.specialize.setup.plan import work_plan
from hwnas.specialize.setup.work.cut import CutWork, cut_line, timed_cut_plan
from hwnas.specialize.setup.work.estimate import (
    estimate_line,
    judged_networks,
    plan_line,
    search_s,
    trainings_s,
)
from hwnas.specialize.setup.work.minimum import (
    is_too_short,
    too_short_line,
    trained_longer,
    without_search,
)
from hwnas.specialize.setup.work.minutes import MEASURING, REST, misfit, timed_plan
from hwnas.specialize.setup.work.pace import Clock, Setting, measure_pace, training_pace
from hwnas.training.compute import Compute
from hwnas.training.distributed import ranks
from hwnas.training.images.loader import as_data

MEASURED_S = 6.0
"""Time for measuring the speed if no duration is given."""
MIN_LEFT = 0.2
"""Least share of the given time that is planned, however much of it has passed."""


def settle_work(
    setting: Setting,
    folder: Path | None,
    console: Console,
    start_s: float,
    clock: Clock = time.perf_counter,
) -> WorkPlan:
    """Return the plan of a run, stored as ``plan.json`` in its ``folder``.

    A run with a given duration began at ``start_s`` of ``clock``. A resumed run is not planned
    again.
    """
    file = None if folder is None else folder / "plan.json"
    if file is not None and file.exists():
        return read_json(file, WorkPlan)
    spec = setting.spec
    plan = work_plan(spec, setting.dataset, setting.space, console, setting.compute, setting.start)
    if spec.minutes is not None:
        plan = _timed(setting, plan, 60 * spec.minutes, start_s, console, clock)
    elif _is_too_short(setting, plan):
        images = len(setting.dataset.train.labels)
        pace = measure_pace(setting, plan, MEASURED_S, clock)
        console.say(too_short_line(plan, images, pace))
        plan = trained_longer(plan, images)
    if spec.minutes is None and ranks() == 1 and file is not None:
        at_once = trainings_at_once(spec.device, setting.compute)
        console.say(estimate_line(setting, plan, at_once, clock))
    if file is not None:
        write_json(file, plan)
    return plan


def trainings_at_once(device: str, compute: Compute) -> int:
    """Return the number of networks that are trained at once; networks that share a GPU take
    turns."""
    if compute.kind == "cpu":
        return cores()
    return len(child_gpus(device, compute)) or 1


def _timed(
    setting: Setting,
    plan: WorkPlan,
    time_s: float,
    start_s: float,
    console: Console,
    clock: Clock,
) -> WorkPlan:
    images = len(setting.dataset.train.labels)
    at_once = trainings_at_once(setting.spec.device, setting.compute)
    if isinstance(space := in_float(setting.space), ElasticSpace):
        return _timed_cut(setting, space, plan, time_s, start_s, console, clock)
    pace = measure_pace(setting, plan, MEASURING * time_s, clock)
    left_s = max(MIN_LEFT * time_s, time_s - (clock() - start_s))
    strategy, options = setting.spec.strategy, setting.spec.strategy_options
    valid_images = len(setting.dataset.valid.labels)
    judging_images = min(JUDGING_IMAGES, valid_images) if judges(strategy, options) else 0
    timed = timed_plan(plan, pace, images, left_s, at_once, judging_images, valid_images)
    if _is_too_short(setting, timed):
        console.say(too_short_line(timed, images, pace))
        unsearched = replace(plan, search=without_search(plan.search))
        timed = timed_plan(unsearched, pace, images, left_s, at_once, valid_images=valid_images)
    judged = judged_networks(strategy, timed, images, options)
    work_s = search_s(strategy, timed, pace, images, at_once, options, judging_images)
    work_s += trainings_s(timed, pace, images, at_once, valid_images)
    _say_plan(setting, plan_line(timed, pace, judged), work_s, left_s, console)
    return timed


def _timed_cut(
    setting: Setting,
    space: ElasticSpace,
    plan: WorkPlan,
    time_s: float,
    start_s: float,
    console: Console,
    clock: Clock,
) -> WorkPlan:
    """Return the timed plan of a run that cuts a trained network."""
    setting.compute.start()
    data = as_data(setting.dataset.train, setting.dataset, setting.compute)
    limit_s = MEASURING * time_s
    image_ms = training_pace(space.original, data, plan.search.tuning, limit_s, clock)
    left_s = max(MIN_LEFT * time_s, time_s - (clock() - start_s))
    at_once = trainings_at_once(setting.spec.device, setting.compute)
    work = CutWork.of(setting, image_ms, at_once)
    timed = timed_cut_plan(plan, work, left_s)
    _say_plan(setting, cut_line(timed, image_ms), work.seconds(timed), left_s, console)
    return timed


def _say_plan(setting: Setting, what: str, work_s: float, left_s: float, console: Console) -> None:
    """Print what is planned, and why it takes another time where it does."""
    note = misfit(work_s / (1 - REST), left_s)
    console.say(f"{setting.spec.minutes:g} min: {what}{note}")


def _is_too_short(setting: Setting, plan: WorkPlan) -> bool:
    """Return whether there is a supernet but too little time for it; false for several ranks, whose
    speed is not measured."""
    if ranks() > 1 or load_strategy(setting.spec.strategy).traits.own_loop:
        return False
    return is_too_short(plan, len(setting.dataset.train.labels))
