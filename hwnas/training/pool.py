"""Trainings in processes of this machine: one for each core, or a few on each GPU.

Processes share a GPU by time slices and do not compute at the same time, but they use each other's
gaps between kernel launches; this helps only small networks.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from errno import ENOSPC
from pathlib import Path
from typing import NamedTuple

from hwnas.errors import HwnasError, last_line
from hwnas.files import writing
from hwnas.processes import cores

POLL_S = 0.05
MODULE = "hwnas.training.job"

MAX_PER_GPU = 4
LARGE_SIZE = 112
"""Height of images in pixels from which a training alone fills a GPU."""
CONTEXT_BYTES = 0.6e9
"""Memory that CUDA takes for each process."""
OUT_OF_MEMORY = "out of memory"
"""Part of the message of a training that ended for lack of memory."""

NO_SPACE_STATUS = 74
"""Exit status of a training whose folder cannot be written for lack of space."""

Outcome = tuple[Path, str]
"""The folder of a training that has ended, and its error; empty if it succeeded."""


class ProcessPool:
    """Runs ``python -m hwnas.training.job FOLDER``; the processes end when this one does."""

    def __init__(self, count: int | None = None, gpus: Sequence[str] = ()) -> None:
        """``count`` trainings at once; None: one for each core.

        With ``gpus`` there is a training at once for each entry, which sees this GPU only; a GPU
        with several entries has several (`trainings_per_gpu`).
        """
        self.places = list(gpus) or [""] * (count or cores())

    def train(
        self, folders: Sequence[Path], on_poll: Callable[[], None] = lambda: None
    ) -> Iterator[Outcome]:
        """Train in ``folders`` and yield each when it has ended.

        A failed training does not stop the others; a training that runs out of memory beside others
        starts again alone, after them. ``on_poll`` is called several times a second.
        """
        waiting, alone, free = list(folders), list[Path](), list(self.places)
        running: dict[Path, _Running] = {}
        can_repeat = set(waiting) if min(len(waiting), len(free)) > 1 else set[Path]()
        try:
            while waiting or alone or running:
                while waiting and free:
                    running[waiting[0]] = _start(waiting[0], free.pop(0))
                    waiting.pop(0)
                if alone and not running:
                    running[alone[0]] = _start(alone[0], free.pop(0))
                    alone.pop(0)
                time.sleep(POLL_S)
                on_poll()
                for folder, (process, place) in list(running.items()):
                    if process.poll() is None:
                        continue
                    del running[folder]
                    free.append(place)
                    failure = _failure(process.returncode, folder)
                    if OUT_OF_MEMORY in failure and folder in can_repeat:
                        can_repeat.remove(folder)
                        alone.append(folder)
                    else:
                        yield folder, failure
        finally:
            for process, _ in running.values():
                process.kill()
                process.wait()


def trainings_per_gpu(in_size: int, networks: int, peak_bytes: float, free_bytes: float) -> int:
    """Return the number of trainings that share a GPU; ``in_size`` is the height of the images in
    pixels and ``peak_bytes`` the memory of a training step."""
    if in_size >= LARGE_SIZE:
        return 1
    fitting = int(free_bytes // (peak_bytes + CONTEXT_BYTES))
    return max(1, min(MAX_PER_GPU, networks, fitting))


class _Running(NamedTuple):
    process: subprocess.Popen[bytes]
    place: str
    """GPU of the training; empty: the CPU."""


def _start(folder: Path, gpu: str) -> _Running:
    variables = {"OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"}
    if gpu:
        variables["CUDA_VISIBLE_DEVICES"] = gpu
    with writing(folder / "stderr.txt"):
        (folder / "stderr.txt").touch()
    with open(folder / "stderr.txt", "wb") as stderr:
        try:
            process = subprocess.Popen(
                [sys.executable, "-m", MODULE, str(folder)],
                env={**os.environ, **variables, "HWNAS_PARENT": str(os.getpid())},
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                stderr=stderr,
            )
        except OSError as error:
            raise HwnasError(f"cannot start a process to train in: {error.strerror}") from None
    return _Running(process, gpu)


def _failure(status: int, folder: Path) -> str:
    """Return one line on why a process has ended without a result; empty if it has a result."""
    if status == 0:
        return "" if (folder / "result.json").exists() else "it ended without a result"
    if status < 0:
        name = signal.Signals(-status).name
        return f"killed by {name}" + (f" ({OUT_OF_MEMORY}?)" if status == -signal.SIGKILL else "")
    output = (folder / "stderr.txt").read_bytes()
    if status == NO_SPACE_STATUS:  # the message may have had no space either
        return last_line(output, f"{folder}: cannot be written ({os.strerror(ENOSPC)})")
    return last_line(output, f"it ended with status {status} and no message")
