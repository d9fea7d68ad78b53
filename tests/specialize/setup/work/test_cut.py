"""The plan of a run that cuts a trained network."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hwnas.search.plan import SearchPlan
from hwnas.specialize.setup.effort import EFFORTS, WorkPlan
from hwnas.specialize.setup.work.cut import (
    FORWARD_SHARE,
    MEMBER_SHARE,
    SEARCH_FORWARDS,
    member_plan,
    timed_cut_plan,
    trainings,
)
from hwnas.specialize.setup.work.minutes import REST
from hwnas.specialize.setup.work.tuning import MAX_EPOCHS
from hwnas.training.plan import TrainingPlan

EFFORT = EFFORTS["quick"]
TUNING = TrainingPlan(epochs=8, probe=True, batch_size=32)
PLAN = WorkPlan(EFFORT, SearchPlan(tuning=TUNING), member_plan(TUNING, 3000))
USE = 0.5


def planned_s(plan: WorkPlan, image_ms: float, images: int, at_once: int) -> float:
    """The time of a plan, with the share for export and measuring."""
    members = trainings(plan.effort) / at_once * plan.training.epochs * (USE + FORWARD_SHARE)
    epochs = plan.search.tuning.epochs + members
    forwards = SEARCH_FORWARDS * FORWARD_SHARE
    return (epochs * images + forwards) * image_ms / 1e3 / (1 - REST)


@given(st.floats(900, 2000), st.integers(2000, 3000), st.sampled_from([1, 2, 4]))
def test_a_plan_takes_the_time_that_is_given(time_s: float, images: int, at_once: int) -> None:
    plan = timed_cut_plan(PLAN, 20.0, USE, images, time_s, at_once)
    # half an epoch of the tuning may be missing or too many, and one of each training
    rounding_s = (0.5 + trainings(EFFORT) / at_once) * images * 0.02 / (1 - REST)
    assert planned_s(plan, 20.0, images, at_once) == pytest.approx(time_s, abs=rounding_s)


def test_members_are_trained_for_a_share_of_the_tuning() -> None:
    plan = timed_cut_plan(PLAN, 20.0, USE, 1000, 3000.0, 2)
    assert plan.training.epochs == round(MEMBER_SHARE * plan.search.tuning.epochs)
    assert plan.search.tuning.probe and plan.training.probe


@given(st.floats(900, 2000), st.integers(2000, 3000), st.sampled_from([2, 3, 6]))
def test_budgets_that_share_the_tuned_network_take_the_time_of_all(
    time_s: float, images: int, budgets: int
) -> None:
    plan = timed_cut_plan(PLAN, 20.0, USE, images, time_s, 2, budgets=budgets)
    members = trainings(EFFORT) / 2 * plan.training.epochs * (USE + FORWARD_SHARE)
    tuned_s = plan.search.tuning.epochs * images * 0.02 / (1 - REST)
    rest_s = (members * images + SEARCH_FORWARDS * FORWARD_SHARE) * 0.02 / (1 - REST)
    rounding_s = (0.5 + budgets * trainings(EFFORT) / 2) * images * 0.02 / (1 - REST)
    all_s = pytest.approx(budgets * time_s, abs=rounding_s)
    longest = plan.search.tuning.epochs == MAX_EPOCHS
    assert longest or tuned_s + budgets * rest_s == all_s


def test_a_budget_of_several_has_more_epochs_than_alone() -> None:
    alone, beside = (
        timed_cut_plan(PLAN, 20.0, USE, 3000, 1800.0, 2, budgets=budgets) for budgets in (1, 3)
    )
    assert beside.search.tuning.epochs > alone.search.tuning.epochs
    assert beside.training.epochs > alone.training.epochs


def test_the_shortest_plan_has_an_epoch_of_each() -> None:
    plan = timed_cut_plan(PLAN, 20.0, USE, 3000, 1.0, 2)
    assert (plan.search.tuning.epochs, plan.training.epochs) == (1, 1)
