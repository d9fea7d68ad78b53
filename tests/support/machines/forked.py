"""Processes that start quickly: forked from a server that has imported what most tests need."""

from __future__ import annotations

import multiprocessing
import os
import signal
import sys
import time
from collections.abc import Callable
from multiprocessing.context import BaseContext
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import Any, cast

import pytest

from hwnas.training import job, pool

CONTEXT = multiprocessing.get_context("forkserver")
CONTEXT.set_forkserver_preload(
    [
        "torch._dynamo",  # by far the longest import, of the first step of an optimizer
        "hwnas.specialize.distributed.ranks",
        "hwnas.specialize.steps.train_network",
    ]
)


def fork(
    target: Callable[..., object], *arguments: Any, context: BaseContext = CONTEXT
) -> BaseProcess:
    """Start ``target(*arguments)`` in a process with the environment variables of this one."""
    process = context.Process(target=_call, args=(dict(os.environ), target, arguments))  # type: ignore[attr-defined]
    process.start()
    return process


def killed_when(process: BaseProcess, out: Path, pattern: str) -> None:
    """Kill a run when a file that is not empty matches ``pattern`` in its folder."""
    try:
        deadline = time.monotonic() + 300
        while not any(path.stat().st_size for path in out.glob(pattern)):
            assert process.is_alive()
            assert time.monotonic() < deadline
            time.sleep(0.005)
    finally:
        process.kill()
        process.join()
    assert process.exitcode == -signal.SIGKILL


def fork_trainings(patch: pytest.MonkeyPatch) -> None:
    """Let a `ProcessPool` of this process fork its trainings."""
    patch.setattr(pool, "_start", _start)


class _Forked:
    """A training's process, with what `ProcessPool` uses of `subprocess.Popen`."""

    def __init__(self, folder: Path) -> None:
        self._process = fork(_train, folder)
        self.kill, self.wait = self._process.kill, self._process.join

    @property
    def returncode(self) -> int | None:
        return self._process.exitcode

    def poll(self) -> int | None:
        return self.returncode


def _start(folder: Path, gpu: str) -> Any:
    return pool._Running(cast(Any, _Forked(folder)), gpu)


def _train(folder: Path) -> None:
    with open(folder / "stderr.txt", "wb") as file:
        os.dup2(file.fileno(), sys.stderr.fileno())
    sys.argv = ["job", str(folder)]
    job.main()


def _call(
    environment: dict[str, str], target: Callable[..., object], arguments: tuple[Any, ...]
) -> None:
    """Call ``target``; the server has the environment variables of its own start."""
    os.environ.clear()
    os.environ.update(environment)
    target(*arguments)
