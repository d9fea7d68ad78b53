"""The progress of trainings side by side, read from their logs; trainings that runs share."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import msgspec
import numpy as np
import pytest

from hwnas.files import append_line, write_json
from hwnas.specialize.steps.train_candidates import _Progress, reuse
from hwnas.specialize.tracking import Tracking
from hwnas.training.compute import CPU, Compute
from hwnas.training.job import TrainingJob, TrainingResult, read_result
from hwnas.training.log import EpochLog
from hwnas.training.plan import TrainingPlan
from tests.support.reporting.consoles import RecordingConsole
from tests.support.reporting.trackers import Recorder
from tests.support.tiny import tiny_space


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
        dataset=SimpleNamespace(train=SimpleNamespace(images=images), score_name="accuracy"),
        spec=SimpleNamespace(data="photos"),
        console=console,
        compute=CPU,
        tracking=Tracking(recorder),
        training_plan=TrainingPlan(epochs=2),
        budget_ms=1.0,
    )
    shown: list[tuple[float, float, str]] = []
    progress = _Progress(cast(Any, run), lambda *values: shown.append(values), [], folders)
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


SPACE = tiny_space()
JOB = TrainingJob(
    architecture=SPACE.architecture(SPACE.default),
    data="photos",
    plan=TrainingPlan(),
    initial="../../start",
)


def finished(run: Path, job: TrainingJob, weights: bytes) -> Path:
    """Leave a finished training in the folder of a run, and the weights that it began with."""
    folder = run / "training" / job.architecture.digest
    folder.mkdir(parents=True)
    (run / "start").write_bytes(weights)
    write_json(folder / "job.json", job)
    write_json(folder / "result.json", TrainingResult(job.architecture.digest, 0.9, 0.1, 3, 5.0))
    for name in ("architecture.json", "log.jsonl", "network.safetensors"):
        (folder / name).write_bytes(run.name.encode())
    return folder


def test_a_training_that_another_budget_has_done_is_copied(tmp_path: Path) -> None:
    finished(tmp_path / "a", JOB, b"weights")
    (tmp_path / "b").mkdir()
    (tmp_path / "b" / "start").write_bytes(b"weights")
    folder = tmp_path / "b" / "training" / JOB.architecture.digest
    on_more_threads = msgspec.structs.replace(JOB, compute=Compute(threads=2))
    assert reuse([tmp_path / "c", tmp_path / "a"], folder, on_more_threads)
    assert (folder / "network.safetensors").read_bytes() == b"a"
    assert read_result(folder) == read_result(tmp_path / "a" / "training" / folder.name)


@pytest.mark.parametrize(
    ("job", "weights"),
    [(msgspec.structs.replace(JOB, seed=1), b"weights"), (JOB, b"others")],
    ids=["another seed", "other first weights"],
)
def test_another_training_of_the_same_network_is_not_copied(
    job: TrainingJob, weights: bytes, tmp_path: Path
) -> None:
    finished(tmp_path / "a", JOB, b"weights")
    (tmp_path / "b").mkdir()
    (tmp_path / "b" / "start").write_bytes(weights)
    folder = tmp_path / "b" / "training" / JOB.architecture.digest
    assert not reuse([tmp_path / "a"], folder, job)
    assert read_result(folder) is None
