"""The plan of a run that cuts a trained network."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace

from hwnas.search.plan import SearchPlan
from hwnas.specialize.setup.effort import EFFORTS, WorkPlan
from hwnas.specialize.setup.work.cut import (
    MEMBER_SHARE,
    SCREENED,
    SEARCH_FORWARDS,
    CutWork,
    member_plan,
    timed_cut_plan,
    trainings,
)
from hwnas.specialize.setup.work.minutes import FORWARD_SHARE, MIN_STEPS, REST
from hwnas.specialize.setup.work.tuning import MAX_EPOCHS
from hwnas.training.plan import TrainingPlan

EFFORT = replace(EFFORTS["quick"], trained=2)
TUNING = TrainingPlan(epochs=8, probe=True, batch_size=32, frozen_norms=True, patience=3)
PLAN = WorkPlan(EFFORT, SearchPlan(tuning=TUNING), member_plan(TUNING, 3000))
USE = 0.5


VALID = 600


def planned_s(plan: WorkPlan, work: CutWork) -> float:
    """The time of a plan, with the share for export and measuring."""
    tuning, members = plan.search.tuning, plan.training
    # the classifier is fitted; a network is judged before the first epoch, after each, at the end
    tuned = tuning.epochs * tuning.images_shown(work.images)
    tuned += FORWARD_SHARE * (work.images + (tuning.epochs + 2) * VALID)
    member = members.epochs * members.images_shown(work.images) * (USE + FORWARD_SHARE)
    member += USE * FORWARD_SHARE * (work.images + (members.epochs + 2) * VALID)
    parallel = (trainings(plan.effort) * member + work.siblings * USE * tuned) / work.at_once
    steps = tuned / work.budgets + parallel + SEARCH_FORWARDS * FORWARD_SHARE
    return steps * work.image_ms / 1e3 / (1 - REST)


@given(
    st.floats(600, 2000),
    st.integers(2000, 3000),
    st.sampled_from([1, 2, 4]),
    st.sampled_from([0, 1]),
    st.sampled_from([1, 2, 3]),
)
def test_a_plan_takes_the_time_that_is_given(
    time_s: float, images: int, at_once: int, siblings: int, budgets: int
) -> None:
    work = CutWork(20.0, USE, images, VALID, at_once, siblings, budgets)
    plan = timed_cut_plan(PLAN, work, time_s)
    longest = plan.search.tuning.epochs == MAX_EPOCHS
    assert longest or planned_s(plan, work) == pytest.approx(time_s, rel=0.1)


def test_members_are_trained_for_a_share_of_the_tuning() -> None:
    plan = timed_cut_plan(PLAN, CutWork(20.0, USE, 1000, 0, 2), 1500.0)
    tuning, members = plan.search.tuning, plan.training
    tuned, trained = (part.epochs * part.images_shown(1000) for part in (tuning, members))
    assert trained == pytest.approx(MEMBER_SHARE * tuned, rel=0.05)
    assert tuning.probe and members.probe


def test_a_budget_of_several_has_more_epochs_than_alone() -> None:
    alone, beside = (
        timed_cut_plan(PLAN, CutWork(20.0, USE, 3000, 0, 2, budgets=budgets), 1800.0)
        for budgets in (1, 3)
    )
    assert beside.search.tuning.epochs > alone.search.tuning.epochs
    assert beside.training.epochs > alone.training.epochs


def test_the_shortest_plan_has_a_few_steps_and_one_member() -> None:
    plan = timed_cut_plan(PLAN, CutWork(20.0, USE, 3000, VALID, 2), 1.0)
    assert (plan.search.tuning.epochs, plan.training.epochs, plan.effort.trained) == (1, 1, 1)
    assert plan.effort.screened == SCREENED + 1
    assert plan.search.tuning.epoch_images == plan.training.epoch_images == MIN_STEPS * 32


def test_answers_of_the_network_itself_leave_the_time_to_the_members() -> None:
    search = SearchPlan(tuning=replace(TUNING, epochs=0))
    unlabelled = replace(PLAN, search=search, training=replace(PLAN.training, probe=False))
    work = CutWork(20.0, USE, 3000, VALID, 2)
    plan = timed_cut_plan(unlabelled, work, 900.0)
    assert plan.search.tuning.epochs == 0
    assert work.seconds(plan) / (1 - REST) == pytest.approx(900, rel=0.05)
