"""A plan for a given time: what it takes by the measured speed is the time that was given."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace

from hwnas.specialize.setup.effort import EFFORTS, WorkPlan, plans
from hwnas.specialize.setup.work.minutes import (
    MIN_STEPS,
    MIN_TRAINING_EPOCHS,
    REST,
    Epochs,
    fitting_effort,
    misfit,
    timed_plan,
    training_passes,
    training_s,
)
from hwnas.specialize.setup.work.pace import Pace
from hwnas.specialize.setup.work.recipes import DARTS, EAS, IMAGENET_IMAGES, PROXYLESS_IMAGENET
from hwnas.training.images.augment import Augmentation
from hwnas.training.plan import TrainingPlan

VALID = 500
PACE = Pace(weight_ms=1.0, arch_ms=3.0, training_ms=0.5)
QUICK = WorkPlan(EFFORTS["quick"], *plans(EFFORTS["quick"], 4000, 5e6, Augmentation()))


def planned_s(plan: WorkPlan, pace: Pace, images: int, at_once: int) -> float:
    """The time of a plan, with the share for export and measuring."""
    search, training = plan.search, plan.training
    each = pace.weight_ms + pace.arch_ms / search.weight_steps
    search_ms = search.images_shown(images) * (
        search.warmup_epochs * pace.weight_ms + search.search_epochs * each
    )
    trainings = math.ceil((plan.effort.trained + plan.effort.baselines) / at_once)
    # 2,048 training images give the statistics of batch norms; a forward pass is a third of a step
    shown = training.epochs * training.images_shown(images) + min(images, 2048) / 3 + VALID / 3
    return (search_ms + trainings * shown * pace.training_ms) / 1e3 / (1 - REST)


@given(st.floats(60, 800), st.integers(1000, 50_000), st.sampled_from([1, 2, 4]))
def test_a_plan_takes_the_time_that_is_given(time_s: float, images: int, at_once: int) -> None:
    """Whatever an epoch takes: where few passes fit, it is a part of one."""
    effort = replace(EFFORTS["quick"], max_epochs=10**6)
    work = replace(QUICK, effort=effort)
    plan = timed_plan(work, PACE, images, time_s, at_once, valid_images=VALID)
    assert planned_s(plan, PACE, images, at_once) == pytest.approx(time_s, rel=0.1)


def test_epochs_are_parts_of_a_pass_where_whole_ones_do_not_fill_the_time() -> None:
    assert Epochs.of(12.4, 6400, 64) == Epochs(12)
    assert Epochs.of(3.0, 6400, 64) == Epochs(3)
    assert Epochs.of(2.5, 6400, 64) == Epochs(3, 83 * 64)
    assert Epochs.of(0.3, 6400, 64) == Epochs(1, 30 * 64)
    assert Epochs.of(0.0, 6400, 64) == Epochs(1, MIN_STEPS * 64)
    assert Epochs.of(0.0, 200, 64) == Epochs(1)  # three steps are a whole pass


def test_warm_up_and_search_have_epochs_of_the_same_size() -> None:
    # 50,000 images in five minutes: 30 s of warm-up and 37 s of search, and an epoch takes 50 s
    plan = timed_plan(QUICK, PACE, 50_000, 150.0, 1)
    search = plan.search
    assert search.epoch_images % search.batch_size == 0
    assert search.warmup_epochs * search.epoch_images * 1e-3 == pytest.approx(30, rel=0.3)
    assert search.search_epochs * search.epoch_images * 2.5e-3 == pytest.approx(37, rel=0.3)


def test_what_does_not_fit_the_time_is_said() -> None:
    assert misfit(95.0, 100.0) == misfit(110.0, 100.0) == ""
    assert misfit(290.0, 200.0) == " (the shortest plan takes about 5 min)"
    assert misfit(290.0, 600.0) == " (about 5 min are enough, more epochs would overfit)"


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
    same = {"warmup_epochs": 0, "epochs": 0, "epoch_images": 0}
    assert replace(plan.training, **same) == replace(QUICK.training, **same)


def test_in_little_time_fewer_networks_are_trained_instead_of_hardly_any_epochs() -> None:
    plan = timed_plan(QUICK, PACE, 4000, 60.0, 1)
    assert (plan.effort.trained, plan.effort.baselines) == (1, 0)
    assert plan.training.epochs >= MIN_TRAINING_EPOCHS
    assert fitting_effort(EFFORTS["quick"], 1.0, 2) == replace(
        EFFORTS["quick"], trained=2, baselines=0
    )
    assert fitting_effort(EFFORTS["quick"], 1.0, 4) == EFFORTS["quick"]


def test_no_time_at_all_is_a_few_steps_of_each() -> None:
    plan = timed_plan(QUICK, PACE, 4000, 0.001, 2)
    assert plan.search.warmup_epochs == plan.search.search_epochs == plan.training.epochs == 1
    assert plan.search.epoch_images == plan.training.epoch_images == MIN_STEPS * 64


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


def test_a_search_that_trains_networks_shortens_their_epochs_in_little_time() -> None:
    papers = WorkPlan(EFFORTS["full"], EAS.search, EAS.training)
    pace = Pace(weight_ms=0.0, arch_ms=0.0, training_ms=0.5)
    plan = timed_plan(papers, pace, 50_000, 600.0, 2).search
    assert 0 < plan.epoch_images < 50_000
    start_s = plan.warmup_epochs * plan.epoch_images * 0.5e-3
    children_s = plan.children * plan.child_epochs / 2 * plan.epoch_images * 0.5e-3
    assert start_s + children_s == pytest.approx(0.45 * 600, rel=0.15)


def test_a_single_training_has_the_passes_of_its_time() -> None:
    frozen = TrainingPlan(frozen_norms=True)
    assert training_passes(frozen, 100.0, 1.0, 4000, 3000) == (100_000 - 1000) / 4000
    assert training_passes(frozen, 0.0, 1.0, 4000, 3000) == 0
    # the classifier is fitted; networks are judged before the first epoch, after each, at the end
    tuned = replace(frozen, probe=True, patience=3)
    passes = training_passes(tuned, 100.0, 1.0, 4000, 3000)
    assert passes == pytest.approx((100_000 - (4000 + 2 * 3000) / 3) / (4000 + 1000))
    assert training_s(replace(tuned, epochs=9), 1.0, 4000, 3000) == pytest.approx(
        (9 * 4000 + (4000 + 11 * 3000) / 3) / 1e3
    )
    # statistics of batch norms, from 2,048 images
    assert training_s(TrainingPlan(epochs=1), 3.0, 4000, 0) == pytest.approx(12 + 2.048)
