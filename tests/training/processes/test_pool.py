"""Trainings in processes: on which cores and GPUs, and what happens where memory is short."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from hwnas.training import pool as process_pool
from hwnas.training.pool import CONTEXT_BYTES, ProcessPool, trainings_per_gpu

Child = Callable[[str], None]


@pytest.fixture
def child(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Child:
    """Lets processes run a text, with ``folder``, instead of a training."""

    def write(text: str) -> None:
        lines = ["import os, sys, time", "from pathlib import Path", "folder = Path(sys.argv[1])"]
        (tmp_path / "instead.py").write_text("\n".join([*lines, text]))

    monkeypatch.setattr(process_pool, "MODULE", "instead")
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    return write


def folders(where: Path, count: int) -> list[Path]:
    made = [where / f"training-{number}" for number in range(count)]
    for folder in made:
        folder.mkdir()
    return made


def test_a_training_out_of_memory_beside_others_starts_again_alone(
    tmp_path: Path, child: Child
) -> None:
    child("""
with open(folder / "starts", "a") as starts:
    starts.write("|")
others = [each for each in folder.parent.glob("training-*/running") if each.parent != folder]
(folder / "running").touch()
if folder.name == "training-0" and (folder / "starts").read_text() == "|":
    (folder / "running").unlink()
    sys.exit("out of memory")
if (folder / "starts").read_text() == "||" and others:
    sys.exit("not alone")
time.sleep(0.3)
(folder / "running").unlink()
(folder / "result.json").touch()
""")
    first, *others = trainings = folders(tmp_path, 3)
    outcomes = list(ProcessPool(2).train(trainings))
    assert sorted(outcomes) == [(folder, "") for folder in trainings]
    assert outcomes[-1] == (first, "")
    assert [(folder / "starts").read_text() for folder in trainings] == ["||", "|", "|"]
    assert others


def test_a_training_that_is_too_large_alone_fails(tmp_path: Path, child: Child) -> None:
    child('(folder / "starts").open("a").write("|"); sys.exit("out of memory")')
    trainings = folders(tmp_path, 2)
    assert sorted(ProcessPool(2).train(trainings)) == [
        (folder, "out of memory") for folder in trainings
    ]
    assert [(folder / "starts").read_text() for folder in trainings] == ["||", "||"]


def test_a_training_whose_message_has_no_space_on_the_disk_says_what_was_full(
    tmp_path: Path, child: Child
) -> None:
    child(f"sys.exit({process_pool.NO_SPACE_STATUS})")
    [training] = folders(tmp_path, 1)
    full = f"{training}: cannot be written (No space left on device)"
    assert list(ProcessPool(1).train([training])) == [(training, full)]


def test_each_training_sees_one_gpu_that_it_has_for_itself(tmp_path: Path, child: Child) -> None:
    child("""
gpu = os.environ["CUDA_VISIBLE_DEVICES"]
lock = folder.parent / f"gpu-{gpu}"
lock.touch(exist_ok=False)
time.sleep(0.1)
lock.unlink()
(folder / "result.json").write_text(gpu)
""")
    trainings = folders(tmp_path, 5)
    assert sorted(ProcessPool(gpus=["3", "5"]).train(trainings)) == [
        (folder, "") for folder in trainings
    ]
    assert {(folder / "result.json").read_text() for folder in trainings} == {"3", "5"}


def test_without_gpus_a_training_sees_those_that_this_process_sees(
    tmp_path: Path, child: Child, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "7")
    child('(folder / "result.json").write_text(os.environ["CUDA_VISIBLE_DEVICES"])')
    [training] = folders(tmp_path, 1)
    assert list(ProcessPool(1).train([training])) == [(training, "")]
    assert (training / "result.json").read_text() == "7"


def test_a_gpu_has_one_training_of_large_images_and_up_to_four_of_small_ones() -> None:
    assert trainings_per_gpu(112, 8, 1e9, 80e9) == 1
    assert trainings_per_gpu(111, 8, 1e9, 80e9) == 4
    assert trainings_per_gpu(32, 3, 1e9, 80e9) == 3
    assert trainings_per_gpu(32, 8, 1e9, 2 * (1e9 + CONTEXT_BYTES)) == 2
    assert trainings_per_gpu(32, 8, 1e9, 1e9) == 1
