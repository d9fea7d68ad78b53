"""The progress of trainings side by side, read from their logs."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import numpy as np

from hwnas.files import append_line
from hwnas.specialize.steps.train_candidates import _Progress
from hwnas.specialize.tracking import Tracking
from hwnas.training.compute import CPU
from hwnas.training.log import EpochLog
from hwnas.training.plan import TrainingPlan
from tests.support.consoles import RecordingConsole
from tests.support.trackers import Recorder


def epoch(number: int, images_per_s: float) -> EpochLog:
    return EpochLog(number, 2, 0.5, 0.75, images_per_s, 0.1, 1_000_000_000)


def test_epochs_that_end_during_the_run_are_tracked_and_speeds_of_the_unfinished_add_up(
    tmp_path: Path,
) -> None:
    folders = [tmp_path / "aaaaaaaa-1", tmp_path / "bbbbbbbb-2"]
    for folder in folders:
        folder.mkdir()
    append_line(folders[0] / "log.jsonl", epoch(1, 10))  # from before the run was resumed
    recorder, console = Recorder(), RecordingConsole()
    images = np.zeros((1, 1, 4, 4), np.uint8)
    run = SimpleNamespace(
        dataset=SimpleNamespace(train=SimpleNamespace(images=images)),
        spec=SimpleNamespace(data="photos"),
        console=console,
        compute=CPU,
        tracking=Tracking(recorder),
        training_plan=TrainingPlan(epochs=2),
    )
    shown: list[tuple[float, float, str]] = []
    progress = _Progress(cast(Any, run), lambda *values: shown.append(values), folders)
    progress.show()
    assert recorder.points == []
    append_line(folders[1] / "log.jsonl", epoch(1, 20))
    progress.show()
    assert shown[-1][:2] == (2, 4)
    assert shown[-1][2].startswith("training accuracy 75%, 75%, 30 img/s, 10% waiting")
    append_line(folders[0] / "log.jsonl", epoch(2, 40))
    progress.show()
    assert "20 img/s" in shown[-1][2]
    assert [
        (step, point["training/" + name + "/images_per_s"])
        for (step, point), name in zip(recorder.points, ("bbbbbbbb", "aaaaaaaa"), strict=True)
    ] == [(1, 20), (2, 40)]
