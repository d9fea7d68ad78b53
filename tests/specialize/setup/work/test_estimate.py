"""The estimate of a run is the time that a plan of given minutes would have been made for."""

from __future__ import annotations

import pytest
from msgspec.structs import replace

from hwnas.search.plan import MAX_QUERIES, MIN_QUERIES
from hwnas.specialize.setup.effort import EFFORTS, WorkPlan, plans
from hwnas.specialize.setup.work.cut import CutWork, member_plan, timed_cut_plan
from hwnas.specialize.setup.work.estimate import (
    judged_networks,
    plan_line,
    search_s,
    trainings_s,
)
from hwnas.specialize.setup.work.minutes import REST, timed_plan
from hwnas.specialize.setup.work.pace import Pace
from hwnas.training.images.augment import Augmentation

PACE = Pace(weight_ms=1.0, arch_ms=3.0, training_ms=0.5)
EFFORT = replace(EFFORTS["quick"], max_epochs=10**6)
QUICK = WorkPlan(EFFORT, *plans(EFFORT, 4000, 5e6, Augmentation()))


@pytest.mark.parametrize("at_once", [1, 2, 4])
def test_the_estimate_of_a_timed_plan_is_its_time(at_once: int) -> None:
    plan = timed_plan(QUICK, PACE, 4000, 600.0, at_once)
    work_s = search_s("proxyless", plan, PACE, 4000, at_once, {"choice": "most-probable"})
    work_s += trainings_s(plan, PACE, 4000, at_once)
    assert work_s / (1 - REST) == pytest.approx(600, rel=0.05)


def test_a_search_that_trains_networks_takes_their_time() -> None:
    search = replace(QUICK.search, warmup_epochs=5, children=40, child_epochs=3)
    plan = replace(QUICK, search=search)
    assert search_s("eas", plan, replace(PACE, weight_ms=0.0), 4000, 2) == pytest.approx(
        (5 + 40 * 3 / 2) * 4000 * 0.5e-3
    )


def test_judging_networks_takes_as_long_as_training_their_supernet() -> None:
    pace = replace(PACE, arch_ms=0.0)
    plan = timed_plan(QUICK, pace, 4000, 200.0, 1, judging_images=256)
    work_s = search_s("evolution", plan, pace, 4000, 1) + trainings_s(plan, pace, 4000, 1)
    assert work_s / (1 - REST) == pytest.approx(200, rel=0.1)
    steps_s = search_s("random", plan, pace, 4000, 1)
    judged_s = search_s("evolution", plan, pace, 4000, 1) - steps_s
    assert MIN_QUERIES < judged_networks("evolution", plan, 4000) < MAX_QUERIES
    assert judged_s == pytest.approx(steps_s, rel=0.01)
    line = plan_line(plan, PACE, judged_networks("nsga2", plan, 4000))
    assert f"{plan.search.queries(4000)} networks judged on the supernet" in line
    assert judged_networks("random", plan, 4000) == 0


@pytest.mark.parametrize("strategy", ["proxyless", "reinforce"])
def test_the_most_probable_networks_are_not_judged(strategy: str) -> None:
    paper = {"choice": "most-probable"}
    assert judged_networks(strategy, QUICK, 4000) == QUICK.search.queries(4000) > 0
    assert judged_networks(strategy, QUICK, 4000, paper) == 0
    judged_s = search_s(strategy, QUICK, PACE, 4000, 1)
    assert judged_s > search_s(strategy, QUICK, PACE, 4000, 1, paper)


def test_networks_are_judged_by_the_validation_images_that_there_are() -> None:
    steps_s, many_s, few_s = (
        search_s(strategy, QUICK, PACE, 60, 1, judging_images=images)
        for strategy, images in [("random", 256), ("evolution", 256), ("evolution", 16)]
    )
    assert many_s - steps_s == pytest.approx(16 * (few_s - steps_s))


def test_no_search_takes_no_time() -> None:
    search = replace(QUICK.search, warmup_epochs=0, search_epochs=0)
    assert search_s("proxyless", replace(QUICK, search=search), PACE, 4000, 1) == 0


def test_the_estimate_of_a_timed_cut_is_its_time() -> None:
    tuning = replace(QUICK.training, epochs=4)
    plan = replace(QUICK, search=replace(QUICK.search, tuning=tuning))
    plan = replace(plan, training=member_plan(tuning, 500))
    work = CutWork(20.0, 0.5, 500, 100, 2)
    timed = timed_cut_plan(plan, work, 600.0)
    assert work.seconds(timed) / (1 - REST) == pytest.approx(600, rel=0.05)
