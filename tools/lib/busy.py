"""Other programs that come and go while something is measured."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterable, Iterator
from contextlib import contextmanager

_PROGRAM = """\
import os, random, sys, time
os.sched_setaffinity(0, {int(sys.argv[1])})
while True:
    end = time.time() + random.uniform(0.05, 1.5)
    while time.time() < end: sum(range(10000))
    time.sleep(random.uniform(0.05, 1.5))
"""


@contextmanager
def busy_cores(cores: Iterable[int] | None = None) -> Iterator[None]:
    """Run a process on each of ``cores`` that computes and sleeps in turns of 0.05 to 1.5 s.

    ``None``: on every core that this process may use.
    """
    cores = sorted(os.sched_getaffinity(0)) if cores is None else cores
    processes = [subprocess.Popen([sys.executable, "-c", _PROGRAM, str(core)]) for core in cores]
    try:
        yield
    finally:
        for process in processes:
            process.terminate()
            process.wait()


_COMPUTES = "while True: sum(range(10000))"
_COPIES = """\
a, b = bytearray(1 << 27), bytearray(1 << 27)
while True: a[:] = b
"""


@contextmanager
def busy_programs(count: int, memory: bool = False) -> Iterator[list[int]]:
    """Run programs on any core that compute all the time, or copy more memory than caches hold.

    Yields their process ids.
    """
    code = _COPIES if memory else _COMPUTES
    processes = [subprocess.Popen([sys.executable, "-c", code]) for _ in range(count)]
    try:
        yield [process.pid for process in processes]
    finally:
        for process in processes:
            process.kill()
            process.wait()
