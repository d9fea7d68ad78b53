"""Timed calls, and what the scheduler did to each of them; standard library only.

A call of one thread lost the time by which its wall clock exceeds its CPU time. Of several threads
each may sleep in turn, so a call lost the time for which they were ready to run but got no core, by
the kernel's account (``run_delay`` in ``/proc/self/task/*/schedstat``).
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from typing import Any

try:
    import resource
except ImportError:  # not on Windows
    resource = None

from hwnas.devices.worker.model import GpuRun

MAX_LOST_SHARE, MAX_LOST_MS = 0.01, 0.002
"""Largest share of the wall clock, per thread, that an undisturbed call may lose to other programs,
and the time that reading two clocks one after the other may take, which is allowed in any case."""

EMPTY_CALLS = 200
"""Empty calls by which the CPU time of reading the clocks is measured."""


class Samples:
    """Timed calls of a model in the order they were made; all lists have the same length."""

    def __init__(self) -> None:
        self.wall_ms: list[float] = []
        self.cpu_ms: list[float] = []
        """CPU time of all threads; empty where it is not known, as on a GPU."""
        self.lost_ms: list[float] = []
        """Time that other programs took from the call."""
        self.switches: list[int] = []
        """Involuntary context switches."""

    def undisturbed_ms(self, threads: int) -> list[float]:
        """Return the wall clock of the calls that lost no time to others."""
        if not self.lost_ms:
            return self.wall_ms
        share = MAX_LOST_SHARE * threads
        return [
            wall
            for wall, lost in zip(self.wall_ms, self.lost_ms, strict=True)
            if lost <= max(MAX_LOST_MS, share * wall)
        ]

    def usage(self) -> dict[str, Any] | None:
        """Return the fields of `hwnas.measurement.round.Usage`."""
        if not self.cpu_ms:
            return None
        return {"cpu_ms": self.cpu_ms, "lost_ms": self.lost_ms, "switches": self.switches}


class Timer:
    """Times calls of a process that computes with a number of threads."""

    def __init__(self, threads: int, counters: Counters | None = None) -> None:
        self.counters = counters or Counters(threads)
        self._empty_cpu_ns = 0
        empty = Samples()
        self.add(empty, lambda: None, EMPTY_CALLS)
        if empty.cpu_ms:
            self._empty_cpu_ns = round(sorted(empty.cpu_ms)[EMPTY_CALLS // 2] * 1e6)

    def add(self, samples: Samples, run: Callable[[], None], calls: int) -> None:
        """Time ``calls`` more calls, by this machine's clock or by GPU events (`GpuRun`)."""
        if isinstance(run, GpuRun):
            samples.wall_ms += run.timed_ms(calls)
            return
        counters = self.counters
        wall_ns, cpu_ns = counters.wall_ns, counters.cpu_ns
        for _ in range(calls):
            switches, waited = counters.switches(), counters.waited_ns()
            cpu_start = cpu_ns()
            start = wall_ns()
            run()
            wall = wall_ns() - start
            cpu = max(0, cpu_ns() - cpu_start - self._empty_cpu_ns)
            samples.wall_ms.append(_ms(wall))
            if not counters.known:
                continue
            switches = counters.switches() - switches
            waited = counters.waited_ns() - waited
            lost = max(0, wall - cpu) if counters.threads == 1 else waited
            samples.cpu_ms.append(_ms(cpu))
            samples.lost_ms.append(_ms(lost))
            samples.switches.append(switches)


class Counters:
    """Clocks and counters of this process: of the calling thread if it is the only one."""

    def __init__(self, threads: int, root: str = "/proc/self") -> None:
        self.threads, self.root = threads, root
        self.wall_ns = time.perf_counter_ns
        self.cpu_ns = time.thread_time_ns if threads == 1 else time.process_time_ns
        self.known = resource is not None
        """Whether this system counts context switches."""
        thread = getattr(resource, "RUSAGE_THREAD", None) if threads == 1 else None
        self._who: int = 0 if thread is None else thread  # RUSAGE_SELF is 0 everywhere

    def switches(self) -> int:
        return resource.getrusage(self._who).ru_nivcsw if resource is not None else 0

    def waited_ns(self) -> int:
        """Return for how long threads were ready to run and got no core, since they began.

        If the kernel does not report it, each involuntary switch counts as one second, so that no
        call with a switch passes as undisturbed. Always 0 for one thread.
        """
        if self.threads == 1:
            return 0
        total, folder = 0, f"{self.root}/task"
        try:
            for thread in os.listdir(folder):
                try:
                    with open(f"{folder}/{thread}/schedstat", encoding="ascii") as file:
                        total += int(file.read().split()[1])
                except FileNotFoundError:
                    if not os.path.exists(f"{folder}/{thread}"):
                        continue  # the thread has ended
                    raise
        except (OSError, ValueError, IndexError):
            return self.switches() * 10**9
        return total


def _ms(nanoseconds: int) -> float:
    return round(nanoseconds / 1e6, 5)
