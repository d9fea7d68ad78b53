"""A plan for a given time: what it takes by the measured speed is the time that was given."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace

from hwnas.specialize.setup.effort import EFFORTS, WorkPlan, plans
from hwnas.specialize.setup.work.minutes import (
    MIN_TRAINING_EPOCHS,
    REST,
    fitting_effort,
    timed_plan,
    training_epochs,
    turns_of,
)
from hwnas.specialize.setup.work.pace import Pace
from hwnas.specialize.setup.work.recipes import DARTS, EAS, IMAGENET_IMAGES, PROXYLESS_IMAGENET
from hwnas.training.images.augment import Augmentation

PACE = Pace(weight_ms=1.0, arch_ms=3.0, training_ms=0.5)
QUICK = WorkPlan(EFFORTS["quick"], *plans(EFFORTS["quick"], 4000, 5e6, Augmentation()))


def planned_s(plan: WorkPlan, pace: Pace, images: int, at_once: int) -> float:
    """The time of a plan, with the share for export and measuring."""
    search, training = plan.search, plan.training
    each = pace.weight_ms + pace.arch_ms / search.weight_steps
    search_ms = images * (search.warmup_epochs * pace.weight_ms + search.search_epochs * each)
    trainings = math.ceil((plan.effort.trained + plan.effort.baselines) / at_once)
    return (search_ms + trainings * training.epochs * images * pace.training_ms) / 1e3 / (1 - REST)


@given(st.floats(200, 800), st.integers(1000, 4000), st.sampled_from([1, 2, 4]))
def test_a_plan_takes_the_time_that_is_given(time_s: float, images: int, at_once: int) -> None:
    effort = replace(EFFORTS["quick"], max_epochs=10**6)
    plan = timed_plan(replace(QUICK, effort=effort), PACE, images, time_s, at_once)
    # the last epoch of the trainings may be missing or too many
    epoch_s = turns_of(plan.effort, at_once) * images * PACE.training_ms / 1e3
    assert planned_s(plan, PACE, images, at_once) == pytest.approx(time_s, abs=epoch_s + 1)


def test_time_is_split_into_warm_up_search_and_trainings() -> None:
    plan = timed_plan(QUICK, PACE, 4000, 400.0, 4)
    # 80 s at 4 s; 100 s at 4 + 6 s; 180 s at 2 s, limited to 60 epochs
    assert (plan.search.warmup_epochs, plan.search.search_epochs) == (20, 10)
    assert plan.training.epochs == 60
    plan = timed_plan(QUICK, PACE, 4000, 200.0, 4)
    assert (plan.search.warmup_epochs, plan.search.search_epochs) == (10, 5)
    assert plan.training.epochs == 45
    assert plan.training.warmup_epochs == pytest.approx(9)


def test_rates_batches_and_networks_stay_those_of_the_effort() -> None:
    plan = timed_plan(QUICK, PACE, 4000, 200.0, 4)
    assert plan.effort == QUICK.effort
    same = {"warmup_epochs": 0, "epochs": 0}
    assert replace(plan.training, **same) == replace(QUICK.training, **same)


def test_in_little_time_fewer_networks_are_trained_instead_of_hardly_any_epochs() -> None:
    plan = timed_plan(QUICK, PACE, 4000, 60.0, 1)
    assert (plan.effort.trained, plan.effort.baselines) == (1, 0)
    assert plan.training.epochs >= MIN_TRAINING_EPOCHS
    assert fitting_effort(EFFORTS["quick"], 1.0, 2) == replace(
        EFFORTS["quick"], trained=2, baselines=0
    )
    assert fitting_effort(EFFORTS["quick"], 1.0, 4) == EFFORTS["quick"]


def test_no_time_at_all_is_an_epoch_of_each() -> None:
    plan = timed_plan(QUICK, PACE, 4000, 0.001, 2)
    assert plan.search.warmup_epochs == plan.search.search_epochs == plan.training.epochs == 1


def test_a_paper_is_never_trained_longer_and_keeps_its_schedule() -> None:
    papers = WorkPlan(EFFORTS["full"], PROXYLESS_IMAGENET.search, PROXYLESS_IMAGENET.training)
    plan = timed_plan(papers, PACE, IMAGENET_IMAGES, 1e9, 1)
    assert plan == papers
    plan = timed_plan(papers, PACE, IMAGENET_IMAGES, 86400.0 * 7, 1)
    assert 1 < plan.search.warmup_epochs < 120 and plan.training.warmup_epochs == 0
    darts = WorkPlan(EFFORTS["full"], DARTS.search, DARTS.training)
    plan = timed_plan(darts, PACE, 40_000, 3600.0, 1)
    assert plan.search.warmup_epochs == 0
    # 45 % of an hour at 40 + 120 s
    assert plan.search.search_epochs == 10


def test_a_search_that_trains_networks_trains_as_many_as_there_is_time_for() -> None:
    papers = WorkPlan(EFFORTS["full"], EAS.search, EAS.training)
    pace = Pace(weight_ms=0.0, arch_ms=0.0, training_ms=0.5)
    # start network 20 epochs of 2 s; children 20 x 2 s / 2; 45 % of the time
    plan = timed_plan(papers, pace, 4000, 2000.0, 2)
    assert plan.search.warmup_epochs == 20
    assert plan.search.children == (900 - 40) // 20
    assert timed_plan(papers, pace, 4000, 1e9, 2).search.children == 450


def test_a_single_training_has_the_epochs_of_its_time() -> None:
    assert training_epochs(100.0, 1.0, 4000) == 24
    assert training_epochs(0.0, 1.0, 4000) == 1
    assert training_epochs(1e9, 1.0, 4000) == EFFORTS["standard"].max_epochs
