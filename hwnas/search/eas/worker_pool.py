"""Where the networks of EAS are trained: in processes of this machine, or on a Ray cluster.

Both train in the folders of `hwnas.training.job` and write the same files to them. A training that
fails is reported and does not stop the others.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Protocol

import msgspec

from hwnas.errors import last_line
from hwnas.files import write_atomic
from hwnas.processes import connect_cluster
from hwnas.training.job import TEACHER, TrainingJob, run_job
from hwnas.training.pool import Outcome, ProcessPool

RAY_OPTION = "option ray"
"""Name of the option with the cluster's address, for messages."""

INITIAL = "initial.safetensors"
"""File of the initial weights, in the folder of a training."""
INPUTS = ("job.json", INITIAL, TEACHER)
OUTPUTS = ("network.safetensors", "result.json")
IMAGES = "../data.safetensors"
"""The images of all trainings of a search, relative to their folders."""


class Workers(Protocol):
    def train(self, folders: Sequence[Path]) -> Iterator[Outcome]:
        """Train in ``folders``, several at once; yield each when it has ended."""
        ...


def workers_at(address: str, gpus: Sequence[str] = (), per_gpu: int = 1) -> Workers:
    """Return the workers of a Ray cluster, or those of this machine for an empty address.

    With ``gpus`` they train on GPUs, ``per_gpu`` networks at once on each; a cluster has its own.
    """
    if address:
        return RayWorkers(address, 1 / per_gpu if gpus else 0.0)
    return ProcessPool(gpus=[*gpus] * per_gpu)


class RayWorkers:
    """Ray tasks of one core each. Files are sent there and back; no folder is shared, unless images
    are too many to be sent."""

    def __init__(self, address: str, gpu_share: float = 0.0) -> None:
        """Each task requests a core and ``gpu_share`` of a GPU; Ray then shows it that GPU only.

        Raises `UsageError` without Ray, `DeviceError` for an address that does not answer."""
        self._ray = connect_cluster(address, RAY_OPTION)
        self._task = self._ray.remote(train_remotely).options(
            num_cpus=1, num_gpus=gpu_share, max_retries=0
        )

    def train(self, folders: Sequence[Path]) -> Iterator[Outcome]:
        if not folders:
            return
        file = folders[0] / IMAGES
        images = self._ray.put(file.read_bytes() if file.exists() else b"")
        tasks = {self._task.remote(_input_files(folder), images): folder for folder in folders}
        while tasks:
            done, _ = self._ray.wait(list(tasks), num_returns=1)
            for task in done:
                folder = tasks.pop(task)
                try:
                    files = self._ray.get(task)
                except Exception as error:  # of the training, or Ray's for a lost worker
                    yield folder, last_line(str(error), type(error).__name__)
                    continue
                for name in OUTPUTS:
                    write_atomic(folder / name, files[name])
                yield folder, ""


def train_remotely(files: dict[str, bytes], images: bytes) -> dict[str, bytes]:
    """Train a job whose input files are sent as bytes, on any machine; return its output files.

    Without ``images`` the job names a data set, which must be there too.
    """
    with TemporaryDirectory() as scratch:
        folder = Path(scratch) / "training"
        for name, content in files.items():
            write_atomic(folder / name, content)
        if images:
            write_atomic(folder / IMAGES, images)
        run_job(msgspec.json.decode(files["job.json"], type=TrainingJob), folder)
        return {name: (folder / name).read_bytes() for name in OUTPUTS}


def _input_files(folder: Path) -> dict[str, bytes]:
    return {name: (folder / name).read_bytes() for name in INPUTS if (folder / name).exists()}
