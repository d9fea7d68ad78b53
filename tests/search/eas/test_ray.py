"""EAS on a real Ray cluster of this machine trains the same weights as local processes."""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from random import Random

import psutil
import pytest
import torch

from hwnas.nn.build import build
from hwnas.nn.growth.transforms import net_of
from hwnas.search.eas.model_pool import ModelPool, TrainRequest
from hwnas.search.eas.worker_pool import OUTPUTS, Workers, workers_at
from hwnas.training.plan import TrainingPlan
from hwnas.training.pool import ProcessPool
from tests.support.machines.forked import fork_trainings
from tests.support.networks.grown import small_space
from tests.support.tiny import tiny_data

pytest.importorskip("ray", reason='Ray is not installed: pip install "hwnas[ray]"')

SPACE = small_space(depth=5, widths=(4, 8, 12, 16))
TRAIN, VALID = tiny_data(48), tiny_data(24, seed=1)
START_S = 60.0


@pytest.fixture(scope="module")
def cluster() -> Iterator[str]:
    """The address of a cluster of two cores, which ends with the module."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
    folder = tempfile.mkdtemp(prefix="ray")  # short: its sockets' names must be
    command = [
        str(Path(sys.executable).with_name("ray")),
        "start",
        "--head",
        "--block",
        "--port",
        str(port),
        "--num-cpus",
        "2",
        "--include-dashboard",
        "false",
        "--object-store-memory",
        "100000000",
        "--temp-dir",
        folder,
        "--disable-usage-stats",
    ]
    process = subprocess.Popen(
        command,
        env={**os.environ, "PYTHONPATH": os.getcwd()},
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    try:
        deadline = time.monotonic() + START_S
        while not _listens(port):
            if process.poll() is not None or time.monotonic() > deadline:
                pytest.skip("a Ray cluster could not be started on this machine")
            time.sleep(0.2)
        yield f"127.0.0.1:{port}"
    finally:
        import ray

        ray.shutdown()
        process.terminate()
        process.wait(30)
        shutil.rmtree(folder, ignore_errors=True)


def _listens(port: int) -> bool:
    with socket.socket() as client:
        return client.connect_ex(("127.0.0.1", port)) == 0


def requests(count: int) -> list[TrainRequest]:
    plan = TrainingPlan(epochs=1, batch_size=8)
    requests: list[TrainRequest] = []
    for number in range(count):
        torch.manual_seed(number)
        architecture = SPACE.architecture(SPACE.random(Random(number)))
        net = net_of(architecture.blocks, build(architecture))
        requests.append(TrainRequest(architecture, net, "", (), 1.0, plan))
    return requests


Evaluated = tuple[list[bytes], list[float | None], list[str]]
"""Weights and accuracies of three children, and the warnings."""


def evaluated(folder: Path, workers: Workers) -> Evaluated:
    warnings: list[str] = []
    home = ModelPool(folder / "children", TRAIN, VALID, 0, lambda: workers, warnings.append)
    members = home.evaluate(requests(3))
    weights = [(home.folder / member.key / OUTPUTS[0]).read_bytes() for member in members]
    return weights, [member.accuracy for member in members], warnings


@pytest.fixture(scope="module")
def here(tmp_path_factory: pytest.TempPathFactory) -> Evaluated:
    """Three children, trained by processes of this machine."""
    with pytest.MonkeyPatch.context() as patch:
        fork_trainings(patch)
        return evaluated(tmp_path_factory.mktemp("here"), ProcessPool(2))


def test_a_cluster_trains_the_same_weights_to_the_bit(
    tmp_path: Path, cluster: str, here: Evaluated
) -> None:
    there = evaluated(tmp_path, workers_at(cluster))
    assert here == there
    assert there[2] == [] and len(set(here[0])) == 3


def test_a_child_whose_worker_is_killed_is_trained_again(
    tmp_path: Path, cluster: str, here: Evaluated
) -> None:
    killed: list[int] = []
    done = threading.Event()

    def kill_one() -> None:
        while not killed and not done.is_set():
            for process in psutil.process_iter(["cmdline"]):
                if "ray::train_remotely" in " ".join(process.info["cmdline"] or ()):
                    process.kill()
                    killed.append(process.pid)
                    return
            time.sleep(0.01)

    workers = workers_at(cluster)
    killer = threading.Thread(target=kill_one)
    killer.start()
    try:
        weights, accuracies, warnings = evaluated(tmp_path, workers)
    finally:
        done.set()
        killer.join()
    assert len(killed) == 1 and len(warnings) == 1, warnings
    assert (weights, accuracies) == here[:2]
