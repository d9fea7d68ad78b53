"""Trainings in processes of this machine, as many at once as it has cores."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

from hwnas.errors import HwnasError, last_line
from hwnas.processes import cores

POLL_S = 0.05
MODULE = "hwnas.training.job"

Outcome = tuple[Path, str]
"""The folder of a training that has ended and what went wrong; empty: nothing."""


class ProcessPool:
    """Runs ``python -m hwnas.training.job FOLDER``; the processes end when this one does."""

    def __init__(self, count: int | None = None) -> None:
        """``count`` trainings at once; None: one for each core."""
        self.count = count or cores()

    def train(
        self, folders: Sequence[Path], on_poll: Callable[[], None] = lambda: None
    ) -> Iterator[Outcome]:
        """Train in ``folders`` and yield each when it has ended.

        A failed training stops no other. ``on_poll`` is called several times a second.
        """
        waiting, running = list(folders), dict[Path, subprocess.Popen[bytes]]()
        try:
            while waiting or running:
                while waiting and len(running) < self.count:
                    running[waiting[0]] = _start(waiting[0])
                    waiting.pop(0)
                time.sleep(POLL_S)
                on_poll()
                for folder, process in list(running.items()):
                    if process.poll() is not None:
                        del running[folder]
                        yield folder, _failure(process.returncode, folder)
        finally:
            for process in running.values():
                process.kill()
                process.wait()


def _start(folder: Path) -> subprocess.Popen[bytes]:
    one_thread = {"OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"}
    with open(folder / "stderr.txt", "wb") as stderr:
        try:
            return subprocess.Popen(
                [sys.executable, "-m", MODULE, str(folder)],
                env={**os.environ, **one_thread, "HWNAS_PARENT": str(os.getpid())},
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                stderr=stderr,
            )
        except OSError as error:
            raise HwnasError(f"cannot start a process to train in: {error.strerror}") from None


def _failure(status: int, folder: Path) -> str:
    """Return in one line why a process has ended without a result; empty: it has one."""
    if status == 0:
        return "" if (folder / "result.json").exists() else "it ended without a result"
    if status < 0:
        name = signal.Signals(-status).name
        return f"killed by {name}" + (" (out of memory?)" if status == -signal.SIGKILL else "")
    output = (folder / "stderr.txt").read_bytes()
    return last_line(output, f"it ended with status {status} and no message")
