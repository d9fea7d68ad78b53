"""A training that is killed at any moment and resumed ends with the log of an undisturbed one."""

from __future__ import annotations

from pathlib import Path

import pytest

from hwnas.files import append_line, read_lines
from hwnas.training import job as module
from hwnas.training.job import TrainingJob, TrainingResult, run_job
from hwnas.training.log import EpochLog
from hwnas.training.plan import TrainingPlan
from tests.support.machines.killed import Killed
from tests.support.tiny import MB33, tiny_data, tiny_space

SPACE = tiny_space(MB33)
JOB = TrainingJob(
    architecture=SPACE.architecture(SPACE.default),
    data="in memory",
    plan=TrainingPlan(epochs=3, batch_size=8),
)
IMAGES = tiny_data(16), tiny_data(8, seed=1)


@pytest.fixture(scope="module")
def expected(tmp_path_factory: pytest.TempPathFactory) -> tuple[TrainingResult, list[EpochLog]]:
    """Result and log of the undisturbed training."""
    folder = tmp_path_factory.mktemp("whole")
    return run_job(JOB, folder, images=IMAGES), log_of(folder)


def log_of(folder: Path) -> list[EpochLog]:
    return list(read_lines(folder / "log.jsonl", EpochLog))


def kill_between_checkpoint_and_log(folder: Path, epoch: int) -> None:
    def append(path: Path, line: EpochLog) -> None:
        if line.epoch == epoch:
            raise Killed
        append_line(path, line)

    with pytest.MonkeyPatch.context() as patch, pytest.raises(Killed):
        patch.setattr(module, "append_line", append)
        run_job(JOB, folder, images=IMAGES)


def assert_same(
    folder: Path, result: TrainingResult, expected: tuple[TrainingResult, list[EpochLog]]
) -> None:
    whole, log = expected
    assert (result.loss, result.validation_accuracy) == (whole.loss, whole.validation_accuracy)
    lines = log_of(folder)
    assert [(line.epoch, line.loss) for line in lines] == [(line.epoch, line.loss) for line in log]


@pytest.mark.parametrize("epoch", [1, 2, 3])
def test_a_kill_between_checkpoint_and_log_loses_no_line(
    epoch: int, tmp_path: Path, expected: tuple[TrainingResult, list[EpochLog]]
) -> None:
    kill_between_checkpoint_and_log(tmp_path, epoch)
    assert [line.epoch for line in log_of(tmp_path)] == list(range(1, epoch))
    assert_same(tmp_path, run_job(JOB, tmp_path, images=IMAGES), expected)


@pytest.mark.parametrize("checkpoint", [True, False])
def test_lines_of_epochs_beyond_the_checkpoint_are_dropped(
    checkpoint: bool, tmp_path: Path, expected: tuple[TrainingResult, list[EpochLog]]
) -> None:
    if checkpoint:
        kill_between_checkpoint_and_log(tmp_path, 2)
    append_line(tmp_path / "log.jsonl", EpochLog(3, 3, loss=9.0, accuracy=0.0))
    assert_same(tmp_path, run_job(JOB, tmp_path, images=IMAGES), expected)
