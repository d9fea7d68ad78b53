"""A search on noise is left out, and the time goes to trainings."""

from __future__ import annotations

from pathlib import Path

import pytest
from msgspec.structs import replace

from hwnas.search.plan import SearchPlan
from hwnas.specialize.context import RunContext
from hwnas.specialize.setup.effort import EFFORTS, WorkPlan, plans
from hwnas.specialize.setup.resolve import Resources, open_run
from hwnas.specialize.setup.work import settle
from hwnas.specialize.setup.work.minimum import (
    is_too_short,
    needed_s,
    too_short_line,
    trained_longer,
    without_search,
)
from hwnas.specialize.setup.work.minutes import MIN_TRAINING_STEPS, timed_plan
from hwnas.specialize.setup.work.pace import Pace
from hwnas.specialize.spec import RunSpec
from hwnas.specialize.steps.search_rounds import search_rounds
from hwnas.training.images.augment import Augmentation
from tests.support.reporting.consoles import RecordingConsole
from tests.support.reporting.sample_run import TINY, put_phone_table, write_images

PACE = Pace(weight_ms=30.0, arch_ms=60.0, training_ms=25.0)
PHOTOS, PHOTO_MACS = 2400, 121e6
"""3,000 photos of 128 px, without those for validation."""


def work(effort: str, images: int, macs: float) -> WorkPlan:
    return WorkPlan(
        EFFORTS[effort],  # type: ignore[index]
        *plans(EFFORTS[effort], images, macs, Augmentation()),  # type: ignore[index]
    )


def test_the_efforts_search_small_images_and_do_not_search_a_few_photos() -> None:
    for effort in ("trial", "quick", "standard", "full"):
        assert not is_too_short(work(effort, 4800, 4.5e6), 4800), effort
    assert is_too_short(work("quick", PHOTOS, PHOTO_MACS), PHOTOS)
    assert is_too_short(work("standard", PHOTOS, PHOTO_MACS), PHOTOS)


@pytest.mark.parametrize("effort", ["quick", "standard"])
def test_without_a_search_each_network_is_trained_for_enough_steps(effort: str) -> None:
    before = work(effort, PHOTOS, PHOTO_MACS)
    plan = trained_longer(before, PHOTOS)
    assert not plan.search.trains_supernet and plan.search.epochs(3) == 0
    steps = PHOTOS // plan.training.batch_size * plan.training.epochs
    assert steps >= MIN_TRAINING_STEPS
    assert plan.effort.trained >= 1
    assert plan.training.epochs > before.training.epochs


def test_the_time_that_a_search_would_need_is_that_of_its_steps() -> None:
    plan = work("quick", PHOTOS, PHOTO_MACS)
    # 350 weight steps and 75 architecture steps of 64 images
    assert needed_s(plan, PACE) == pytest.approx(64 * (350 * 0.03 + 75 * 0.06))
    line = too_short_line(plan, PHOTOS, PACE)
    assert "no search: 37 + 37 steps of warm-up and search are planned" in line
    assert "below 200 + 150, which would take about 16 min here" in line


def test_minutes_without_a_search_are_minutes_of_training() -> None:
    plan = work("quick", PHOTOS, PHOTO_MACS)
    unsearched = replace(plan, search=without_search(plan.search))
    timed = timed_plan(unsearched, PACE, PHOTOS, 2000.0, 1)
    networks = timed.effort.trained + timed.effort.baselines
    used_s = networks * timed.training.epochs * PHOTOS * 0.025
    assert used_s == pytest.approx(0.9 * 2000, abs=60 * networks)


@pytest.fixture
def unsearched_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> RunContext:
    monkeypatch.setenv("HWNAS_HOME", str(tmp_path / "home"))
    put_phone_table()
    monkeypatch.setattr(settle, "measure_pace", lambda *_: PACE)
    monkeypatch.setitem(EFFORTS, "quick", replace(TINY, min_warmup_steps=9999, screened=3))
    data = write_images(tmp_path / "images.npz", 120, 30)
    console = RecordingConsole()
    spec = RunSpec(targets=("simulated-phone",), data=str(data))
    with open_run(spec, tmp_path / "run", Resources(console), False) as run:
        return run


def test_a_run_without_a_search_draws_networks_within_the_budget_and_says_why(
    unsearched_run: RunContext,
) -> None:
    run = unsearched_run
    assert isinstance(run.console, RecordingConsole)
    assert sum(line.startswith("no search: ") for line in run.console.lines) == 1
    assert run.search_plan == replace(run.search_plan, warmup_epochs=0, search_epochs=0)
    screened = search_rounds(run)
    drawn = [each for each in screened.candidates if each.origin == "search"]
    assert len(drawn) >= 3
    for candidate in drawn:
        assert candidate.supernet_accuracy is None
        assert (candidate.predicted_ms or 0) <= run.budget_ms


def test_a_plan_of_no_epochs_stays_one_in_further_rounds() -> None:
    assert without_search(SearchPlan()).epochs(3) == 0
    assert SearchPlan(warmup_epochs=0, search_epochs=1).epochs(3) == 3
