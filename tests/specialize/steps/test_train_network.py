"""The threads of a training: as given, or by the cores, and the same when it is resumed."""

from __future__ import annotations

from pathlib import Path

import msgspec
import pytest

from hwnas.files import read_json, write_json
from hwnas.specialize.steps import train_network as module
from hwnas.specialize.steps.train_network import train_network
from hwnas.specialize.steps.training_setup import TrainSpec
from hwnas.training.job import TrainingJob
from hwnas.training.log import EpochLog
from tests.support.reporting.sample_run import write_images
from tests.support.tiny import MB33, tiny_space

SPACE = tiny_space(MB33)


class Killed(Exception):
    """What a test raises in the place of a kill."""


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
