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
from hwnas.specialize.steps.train_resume import check_job
from hwnas.specialize.steps.training_setup import TrainSpec
from hwnas.training.job import TrainingJob, TrainingResult
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
        ({"epochs": 3}, r"with --epochs 2, not with --epochs 3; .* --from .*begun, with another"),
        ({"epochs": None}, r"with --epochs 2, not with --epochs \d+; "),
        ({"epochs": None, "minutes": 1}, "without --minutes, not with --minutes 1; give"),
        ({"seed": 1}, "with --seed 0, not with --seed 1; give"),
        ({"data": "fashion-mnist-6k"}, r"with --data .*images\.npz, not with --data fashion-mni"),
        ({"batch_size": 4}, "with --batch-size 8, not with --batch-size 4; give"),
        ({"weights": Path("w.st")}, "without --weights, not with --weights /.*w.st; give"),
        ({"flip": True}, "with another augmentation, not with this one; give"),
        ({"drop_path": 0.2}, "with --drop-path 0.0, not with --drop-path 0.2; give"),
        (
            {"architecture": "", "pretrained": "resnet18"},
            "without --from, not with --from resnet18; give",
        ),
    ],
)
@pytest.mark.parametrize("resume", [True, False])
def test_weights_of_a_training_with_other_options_are_not_continued(
    change: dict[str, object], message: str, resume: bool, spec: TrainSpec, begun: Path
) -> None:
    before = (begun / "job.json").read_bytes()
    with pytest.raises(UsageError, match=f"begun: the training there was begun {message}"):
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
        with pytest.raises(UsageError, match="begun with another network, not with --arch"):
            train_network(changed, begun, resume=True)


def test_another_resolution_is_named(begun: Path) -> None:
    job = read_json(begun / "job.json", TrainingJob)
    check_job(job, job, begun)
    larger = tiny_space(MB33, size=16)
    other = msgspec.structs.replace(job, architecture=larger.architecture(larger.default))
    with pytest.raises(UsageError, match="begun on images of 1x12x12, not on those of 1x16x16"):
        check_job(other, job, begun)


@pytest.mark.parametrize("begun_as", ["images.npz", "/images.npz"])
def test_the_data_of_a_resumed_training_are_compared_by_their_path(
    begun_as: str, spec: TrainSpec, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    began = msgspec.structs.replace(spec, data=begun_as.replace("/", f"{tmp_path}/"))
    with pytest.raises(Killed):
        train_network(began, tmp_path / "out", on_epoch=kill)
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path / "elsewhere")
    resumed = msgspec.structs.replace(spec, data="../images.npz")
    assert train_network(resumed, tmp_path / "out", resume=True).epochs == 2


def test_a_training_of_given_minutes_is_resumed_with_its_plan(
    spec: TrainSpec, tmp_path: Path
) -> None:
    out, timed = tmp_path / "out", msgspec.structs.replace(spec, epochs=None, minutes=0.01)
    with pytest.raises(Killed):
        train_network(timed, out, on_epoch=kill)
    with pytest.raises(UsageError, match="was begun with --minutes, not without; give"):
        train_network(spec, out, resume=True)
    planned = read_json(out / "job.json", TrainingJob).plan
    train_network(timed, out, resume=True)
    assert read_json(out / "job.json", TrainingJob).plan == planned


def test_a_damaged_description_of_a_training_is_written_again(spec: TrainSpec, begun: Path) -> None:
    (begun / "job.json").write_bytes(b"{")
    assert train_network(spec, begun, resume=True).epochs == 2
    assert threads_of(begun) == 1


@pytest.mark.parametrize(("accuracy", "lines"), [(0.3, 1), (1.0, 0)])
def test_a_training_that_ends_no_better_than_chance_says_so(
    accuracy: float,
    lines: int,
    spec: TrainSpec,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    result = TrainingResult("digest", accuracy, 2.5, 2, 1.0)
    monkeypatch.setattr(module, "run_job", lambda *_, **__: result)
    assert train_network(spec, tmp_path / "out") == result
    assert capsys.readouterr().err.count("not better than chance: 30.0% accuracy on ") == lines


def test_a_training_and_a_run_do_not_share_a_folder(
    spec: TrainSpec, begun: Path, tmp_path: Path
) -> None:
    with pytest.raises(UsageError, match="begun: is the folder of a training; choose another"):
        RunFolder.open(begun, RunSpec(), resume=False)
    with RunFolder.open(tmp_path / "run", RunSpec(), resume=False):
        pass
    with pytest.raises(UsageError, match="run: is the folder of a run; choose another --out"):
        train_network(spec, tmp_path / "run")
