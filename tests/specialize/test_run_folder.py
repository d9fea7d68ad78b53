from contextlib import ExitStack
from pathlib import Path
from time import process_time, sleep

import pytest

from hwnas.files import append_line
from hwnas.specialize.run_folder import RunFolder
from hwnas.specialize.spec import RunSpec


@pytest.fixture
def folder(tmp_path: Path) -> RunFolder:
    return RunFolder(tmp_path, RunSpec(), ExitStack())


def test_time_of_an_inner_stage_is_not_that_of_the_outer_too(folder: RunFolder) -> None:
    with folder.stage("outer"), folder.stage("inner"):
        sleep(0.2)
    times = folder.stages()
    assert times["inner"].seconds >= 0.2
    assert times["outer"].seconds < times["inner"].seconds


def test_the_processor_time_of_a_stage_leaves_waiting_out(folder: RunFolder) -> None:
    with folder.stage("waiting"):
        sleep(0.2)
    with folder.stage("computing"):
        until = process_time() + 0.1
        while process_time() < until:
            pass
    times = folder.stages()
    assert times["waiting"].cpu_s < 0.1 <= times["computing"].cpu_s + 0.02


def test_a_stage_that_is_entered_again_adds_up_and_an_error_keeps_its_time(
    folder: RunFolder,
) -> None:
    for _ in range(2):
        with pytest.raises(KeyError), folder.stage("tried"):
            sleep(0.01)
            raise KeyError
    assert folder.stages()["tried"].seconds >= 0.02


def test_stages_of_a_folder_without_processor_time_are_read(folder: RunFolder) -> None:
    append_line(folder.path / "stages.jsonl", {"stage": "train", "seconds": 3.0})
    assert folder.stages()["train"] == (3.0, 0.0)
