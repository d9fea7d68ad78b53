"""Who trains the networks of EAS: processes of this machine, or a Ray cluster.

Both are given folders (`hwnas.search.eas.train_worker`) and leave the same files in them. What goes
wrong with one child is told, and stops no other.
"""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from importlib import import_module
from pathlib import Path
from typing import Any, Protocol
from urllib.parse import urlsplit

from hwnas.errors import DeviceError, HwnasError, UsageError
from hwnas.files import write_atomic
from hwnas.processes import cores
from hwnas.search.eas.train_worker import INPUTS, OUTPUTS, train_parcel

POLL_S = 0.05
ANSWER_S = 5.0
"""An address that does not answer in this time does not answer."""
MODULE = "hwnas.search.eas.train_worker"

Ended = tuple[Path, str]
"""A child's folder and what went wrong; empty: nothing."""


class Workers(Protocol):
    def train(self, folders: Sequence[Path]) -> Iterator[Ended]:
        """Train the children of ``folders``, several at once; yield each when it has ended."""
        ...


def workers_at(address: str) -> Workers:
    """Return the workers of a Ray cluster, of this machine where there is no address."""
    return RayWorkers(address) if address else LocalWorkers(cores())


class LocalWorkers:
    """A pool of processes, one thread each; they end when this process does."""

    def __init__(self, count: int) -> None:
        self.count = count

    def train(self, folders: Sequence[Path]) -> Iterator[Ended]:
        waiting, running = list(folders), dict[Path, subprocess.Popen[bytes]]()
        try:
            while waiting or running:
                while waiting and len(running) < self.count:
                    running[waiting[0]] = _start(waiting[0])
                    waiting.pop(0)
                time.sleep(POLL_S)
                for folder, process in list(running.items()):
                    if process.poll() is not None:
                        del running[folder]
                        yield folder, _wrong(process.returncode, folder)
        finally:
            for process in running.values():
                process.kill()
                process.wait()


class RayWorkers:
    """Tasks of one core each on a Ray cluster; files go there and back, no folder is shared."""

    def __init__(self, address: str) -> None:
        """Raises `UsageError` without Ray, `DeviceError` for an address that does not answer."""
        self._ray = check_cluster(address)
        try:
            self._ray.init(address=address, log_to_driver=False, ignore_reinit_error=True)
        except Exception as error:  # Ray raises many kinds, all of which mean this
            raise DeviceError(f"no Ray cluster answers at {address}: {_line(error)}") from None
        self._task = self._ray.remote(train_parcel).options(num_cpus=1, max_retries=0)

    def train(self, folders: Sequence[Path]) -> Iterator[Ended]:
        if not folders:
            return
        data = self._ray.put((folders[0].parent / "data.safetensors").read_bytes())
        tasks = {self._task.remote(_parcel(folder), data): folder for folder in folders}
        while tasks:
            done, _ = self._ray.wait(list(tasks), num_returns=1)
            for task in done:
                folder = tasks.pop(task)
                try:
                    files = self._ray.get(task)
                except Exception as error:  # the worker's own, or Ray's of a lost worker
                    yield folder, _line(error)
                    continue
                for name in OUTPUTS:
                    write_atomic(folder / name, files[name])
                yield folder, ""


def check_cluster(address: str) -> Any:
    """Return the module of Ray. Raises `UsageError` where it is not installed, `DeviceError` where
    nothing listens at ``address``: Ray itself would try for minutes."""
    try:
        ray = import_module("ray")
    except ImportError:
        raise UsageError('option ray needs Ray: pip install "hwnas[ray]"') from None
    if address == "auto":
        return ray
    try:
        parts = urlsplit(address if "://" in address else f"//{address}")
        host, port = parts.hostname, parts.port
    except ValueError:
        host = port = None
    if not host or not port:
        raise UsageError(f"option ray={address}: expected HOST:PORT, ray://HOST:PORT or auto")
    try:
        socket.create_connection((host, port), ANSWER_S).close()
    except OSError as error:
        why = error.strerror or str(error)
        raise DeviceError(f"no Ray cluster answers at {address}: {why}") from None
    return ray


def _parcel(folder: Path) -> dict[str, bytes]:
    return {name: (folder / name).read_bytes() for name in INPUTS if (folder / name).exists()}


def _start(folder: Path) -> subprocess.Popen[bytes]:
    one = {"OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"}
    with open(folder / "stderr.txt", "wb") as stderr:
        try:
            return subprocess.Popen(
                [sys.executable, "-m", MODULE, str(folder)],
                env={**os.environ, **one, "HWNAS_PARENT": str(os.getpid())},
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                stderr=stderr,
            )
        except OSError as error:
            raise HwnasError(f"no process can be started to train in: {error.strerror}") from None


def _wrong(status: int, folder: Path) -> str:
    """Return what went wrong in a process that has ended, in one line."""
    if status == 0:
        return "" if (folder / OUTPUTS[-1]).exists() else "it ended without a result"
    said = (folder / "stderr.txt").read_text(errors="replace").strip().splitlines()
    if status < 0:
        name = signal.Signals(-status).name
        return f"killed by {name}" + (" (out of memory?)" if status == -signal.SIGKILL else "")
    return said[-1] if said else f"it ended with status {status} and said nothing"


def _line(error: BaseException) -> str:
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return lines[-1] if lines else type(error).__name__
