"""The threads of a training, and what may differ when it is resumed."""

from __future__ import annotations

from pathlib import Path

import msgspec
import pytest

from hwnas.errors import UsageError
from hwnas.files import read_json, write_json
from hwnas.specialize.run_folder import RunFolder
from hwnas.specialize.spec import RunSpec
from hwnas.specialize.steps import train_network as module
from hwnas.specialize.steps.train_network import train_network
from hwnas.specialize.steps.training_setup import TrainSpec
from hwnas.training.job import TrainingJob
from hwnas.training.log import EpochLog
from tests.support.machines.killed import Killed
from tests.support.reporting.sample_run import write_images
from tests.support.tiny import MB33, tiny_space

SPACE = tiny_space(MB33)


def kill(_: EpochLog) -> None:
    raise Killed


@pytest.fixture
def spec(tmp_path: Path) -> TrainSpec:
    write_json(tmp_path / "network.json", SPACE.architecture(SPACE.default))
    data = write_images(tmp_path / "images.npz", train=24, test=8, size=12)
    return TrainSpec(
        architecture=str(tmp_path / "network.json"), data=str(data), epochs=2, batch_size=8
    )


def threads_of(folder: Path) -> int:
    return read_json(folder / "job.json", TrainingJob).compute.threads


def test_a_resumed_training_keeps_its_threads(
    spec: TrainSpec, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out = tmp_path / "out"
    for cores in (2, 1):
        monkeypatch.setattr(module, "training_threads", lambda size, networks, cores=cores: cores)
        with pytest.raises(Killed):
            train_network(spec, out, resume=True, on_epoch=kill)
        assert threads_of(out) == 2


def test_small_images_have_one_thread_and_a_given_number_is_taken(
    spec: TrainSpec, tmp_path: Path
) -> None:
    for threads, expected in (("auto", 1), (2, 2)):
        out = tmp_path / str(threads)
        train_network(msgspec.structs.replace(spec, threads=threads, epochs=1), out)
        assert threads_of(out) == expected


@pytest.fixture
def begun(spec: TrainSpec, tmp_path: Path) -> Path:
    """The folder of a training that was killed."""
    with pytest.raises(Killed):
        train_network(spec, tmp_path / "begun", on_epoch=kill)
    return tmp_path / "begun"


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"epochs": 3}, "has --epochs 2, not --epochs 3"),
        ({"seed": 1}, "has --seed 0, not --seed 1"),
        ({"data": "fashion-mnist-6k"}, r"has --data .*images\.npz, not --data fashion-mnist-6k"),
        ({"batch_size": 4}, "has --batch-size 8, not --batch-size 4"),
        ({"weights": Path("w.safetensors")}, "has no --weights, not --weights /.*w.safetensors"),
        ({"flip": True}, "has another plan, not this one"),
    ],
)
@pytest.mark.parametrize("resume", [True, False])
def test_weights_of_a_training_with_other_options_are_not_continued(
    change: dict[str, object], message: str, resume: bool, spec: TrainSpec, begun: Path
) -> None:
    before = (begun / "job.json").read_bytes()
    with pytest.raises(UsageError, match=f"begun: the training there {message}"):
        train_network(msgspec.structs.replace(spec, **change), begun, resume=resume)
    assert (begun / "job.json").read_bytes() == before
    assert train_network(spec, begun, resume=resume).epochs == 2


def test_another_network_is_not_continued_nor_taken_for_a_finished_one(
    spec: TrainSpec, begun: Path, tmp_path: Path
) -> None:
    other = tmp_path / "other.json"
    wider = tiny_space(MB33, widths=(8, 16))
    write_json(other, wider.architecture(wider.default))
    changed = msgspec.structs.replace(spec, architecture=str(other))
    for finish in (False, True):
        if finish:
            train_network(spec, begun, resume=True)
        with pytest.raises(UsageError, match="has another network, not --architecture "):
            train_network(changed, begun, resume=True)


def test_a_training_and_a_run_do_not_share_a_folder(
    spec: TrainSpec, begun: Path, tmp_path: Path
) -> None:
    with pytest.raises(UsageError, match="begun: is the folder of a training; choose another"):
        RunFolder.open(begun, RunSpec(), resume=False)
    with RunFolder.open(tmp_path / "run", RunSpec(), resume=False):
        pass
    with pytest.raises(UsageError, match="run: is the folder of a run; choose another --out"):
        train_network(spec, tmp_path / "run")
