"""Children are trained once, in processes or through Ray, and their failures are reported."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, cast

import msgspec
import pytest
import torch

from hwnas.errors import DeviceError, UsageError
from hwnas.files import read_json
from hwnas.nn.build import build
from hwnas.nn.growth.transforms import net_of
from hwnas.search.eas import worker_pool
from hwnas.search.eas.model_pool import Member, ModelPool, TrainRequest, best_member
from hwnas.search.eas.worker_pool import OUTPUTS, RayWorkers, workers_at
from hwnas.training import pool as process_pool
from hwnas.training.compute import Compute
from hwnas.training.job import TrainingJob
from hwnas.training.plan import TrainingPlan
from hwnas.training.pool import ProcessPool
from tests.support.networks.eas_search import SPACE, TRAIN, VALID, FakeRay, InProcess


def requests(count: int, epochs: int = 1) -> list[TrainRequest]:
    plan = TrainingPlan(epochs=epochs, batch_size=8)
    torch.manual_seed(0)
    architecture = SPACE.architecture(SPACE.start)
    nets = [net_of(architecture.blocks, build(architecture)) for _ in range(count)]
    return [TrainRequest(architecture, net, "", (), 1.0, plan) for net in nets]


def pool(folder: Path, workers: worker_pool.Workers) -> ModelPool:
    return ModelPool(folder / "children", TRAIN, VALID, 0, lambda: workers, lambda text: None)


def test_a_child_is_trained_once_for_its_architecture_budget_and_weights(tmp_path: Path) -> None:
    workers = InProcess()
    home, (first, second) = pool(tmp_path, workers), requests(2)
    members = home.evaluate([first, second, first])
    assert members[0] == members[2] != members[1] and len(workers.trained) == 2
    assert home.evaluate([first]) == members[:1]
    assert pool(tmp_path, workers).evaluate([second, first]) == [members[1], members[0]]
    assert len(workers.trained) == 2
    longer = first._replace(plan=msgspec.structs.replace(first.plan, epochs=2))
    home.evaluate([longer])
    assert len(workers.trained) == 3


def test_the_most_accurate_member_of_an_architecture_is_the_best() -> None:
    first = Member("n1", "a", "n0", (), (0, 1), "00", 1, 1, "trained", 1.0, 0.5)
    better = msgspec.structs.replace(first, name="n2", accuracy=0.7)
    later = msgspec.structs.replace(first, name="n3", accuracy=0.6)
    failed = msgspec.structs.replace(first, name="n4", state="failed", accuracy=None)
    second = msgspec.structs.replace(better, name="n5", choices=(0, 2), accuracy=0.9)
    assert best_member([first, better, later, failed, second], (0, 1)) == better


def test_processes_train_the_same_weights_as_this_process(tmp_path: Path) -> None:
    (tmp_path / "a").mkdir()
    (tmp_path / "b").mkdir()
    here, there = pool(tmp_path / "a", InProcess()), pool(tmp_path / "b", ProcessPool(2))
    local, remote = here.evaluate(requests(1)), there.evaluate(requests(1))
    weights = [
        (home.folder / members[0].key / "network.safetensors").read_bytes()
        for home, members in ((here, local), (there, remote))
    ]
    assert weights[0] == weights[1] and local[0].accuracy == remote[0].accuracy


def test_the_error_of_a_failed_process_is_one_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    code = tmp_path / "killed.py"
    code.write_text("import os, signal\nos.kill(os.getpid(), signal.SIGKILL)\n")
    monkeypatch.setattr(process_pool, "MODULE", "killed")
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    (tmp_path / "child").mkdir()
    assert list(ProcessPool(1).train([tmp_path / "child"])) == [
        (tmp_path / "child", "killed by SIGKILL (out of memory?)")
    ]
    code.write_text("import sys\nsys.exit('out of memory')\n")
    assert [error for _, error in ProcessPool(1).train([tmp_path / "child"])] == ["out of memory"]


@pytest.fixture
def listening() -> Iterator[str]:
    import socket

    with socket.create_server(("127.0.0.1", 0)) as server:
        yield f"127.0.0.1:{server.getsockname()[1]}"


def test_ray_trains_the_same_networks(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, listening: str
) -> None:
    ray = FakeRay(broken=1)
    monkeypatch.setitem(sys.modules, "ray", ray)
    (tmp_path / "a").mkdir()
    (tmp_path / "b").mkdir()
    here = pool(tmp_path / "a", InProcess())
    warnings: list[str] = []
    there = ModelPool(
        tmp_path / "b/children", TRAIN, VALID, 0, lambda: workers_at(listening), warnings.append
    )
    local, remote = here.evaluate(requests(2)), there.evaluate(requests(2))
    assert ray.addresses == [listening] and ray.gpu_shares == [0.0]
    assert [m.accuracy for m in local] == [m.accuracy for m in remote]
    assert len(warnings) == 1 and "while executing a task." in warnings[0]
    for name in OUTPUTS[:1]:
        files = [(n.folder / m.key / name).read_bytes() for n in (here, there) for m in local]
        assert files[:2] == files[2:]


def test_a_cluster_is_asked_for_the_share_of_a_gpu_that_a_training_takes(
    monkeypatch: pytest.MonkeyPatch, listening: str
) -> None:
    ray = FakeRay()
    monkeypatch.setitem(sys.modules, "ray", ray)
    workers_at(listening, ("0", "1"), 4)
    assert ray.gpu_shares == [0.25]


def test_processes_of_this_machine_take_turns_on_its_gpus() -> None:
    here = workers_at("", ("2", "5"), 2)
    assert isinstance(here, ProcessPool) and here.places == ["2", "5", "2", "5"]


class Recorded:
    """Trains nothing and keeps the jobs."""

    def __init__(self) -> None:
        self.jobs: list[TrainingJob] = []

    def train(self, folders: Sequence[Path]) -> Iterator[tuple[Path, str]]:
        self.jobs += [read_json(folder / "job.json", TrainingJob) for folder in folders]
        yield from ((folder, "not trained") for folder in folders)


def test_children_compute_as_their_run_on_the_one_gpu_they_see(tmp_path: Path) -> None:
    workers = Recorded()
    train = TRAIN._replace(compute=Compute("cuda:1", "bf16", threads=4))
    home = ModelPool(tmp_path / "children", train, VALID, 0, lambda: workers, lambda text: None)
    assert home.evaluate(requests(1))[0].key != pool(tmp_path / "cpu", workers)._key(requests(1)[0])
    assert workers.jobs[0].compute == Compute("cuda:0", "bf16", threads=1)


def test_children_load_images_that_are_not_in_memory_from_their_data_set(tmp_path: Path) -> None:
    workers, source = Recorded(), tmp_path / "photos"
    source.mkdir()
    stored = TRAIN._replace(images=cast(Any, TRAIN.images.numpy()))  # type: ignore[union-attr]
    home = ModelPool(
        tmp_path / "run" / "children", stored, VALID, 0, lambda: workers, lambda text: None,
        os.path.relpath(source),
    )  # fmt: skip
    home.evaluate(requests(1))
    assert workers.jobs[0].data == str(source)
    assert not (home.folder / "data.safetensors").exists()
    other = stored._replace(labels=stored.labels.roll(1))
    changed = ModelPool(tmp_path / "other", other, VALID, 0, lambda: workers, print, str(source))
    assert changed.data_digest != home.data_digest


def test_an_address_that_does_not_answer_is_exit_3_with_the_address(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setitem(sys.modules, "ray", FakeRay())
    with pytest.raises(DeviceError, match=r"no Ray cluster answers at 127\.0\.0\.1:1: ") as error:
        RayWorkers("127.0.0.1:1")
    assert error.value.exit_code == 3
    with pytest.raises(DeviceError, match="ray://127"):
        RayWorkers("ray://127.0.0.1:1")
    with pytest.raises(UsageError, match="expected HOST:PORT, ray://HOST:PORT or auto"):
        RayWorkers("somewhere")


def test_the_error_without_ray_says_how_to_install_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "ray", None)
    with pytest.raises(UsageError, match=r'pip install "hwnas\[ray\]"'):
        workers_at("127.0.0.1:1")
