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
