"""The lines of ``hwnas specialize --dry-run`` for people."""

from __future__ import annotations

import pytest

from hwnas.cli.specialize import _print_plan
from hwnas.search.plan import SearchPlan
from hwnas.specialize.setup.dry_run import PlannedData, PlanReport
from hwnas.training.plan import TrainingPlan

TUNING, TRAINING = TrainingPlan(epochs=1, epoch_images=320), TrainingPlan(epochs=2)
SEARCH = SearchPlan(warmup_epochs=3, search_epochs=4, epoch_images=1280, tuning=TUNING)


@pytest.mark.parametrize(
    ("starts_from", "work"),
    [
        (
            "",
            "3 epochs of warm-up and 4 of search (1,280 images each), 2 epochs of training for "
            "each network",
        ),
        (
            "net",
            "1 epoch (320 images each) of tuning net for the data, 2 epochs of training for each "
            "network that is cut from it",
        ),
    ],
)
def test_epochs_that_are_no_pass_state_their_images(
    starts_from: str, work: str, capsys: pytest.CaptureFixture[str]
) -> None:
    data = PlannedData("photos", 9000, 1000, 1000, (3, 64, 64))
    _print_plan(
        PlanReport(
            results=(),
            data=data,
            search=SEARCH,
            judged=0,
            training=TRAINING,
            starts_from=starts_from,
        )
    )
    assert f"work: {work}; nothing was trained" in capsys.readouterr().out
