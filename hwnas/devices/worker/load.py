"""Which other programs computed while something was measured; standard library only."""

from __future__ import annotations

import os
import time
from collections.abc import Collection
from typing import Any, NamedTuple

MAX_PROGRAMS = 3
MIN_CORES = 0.05
"""Share of a core below which a program is not worth naming."""
UNSEEN = "short-lived or hidden programs"
"""Name of the programs that began and ended in between, such as those of a build, and of those that
a container hides; their process id is 0."""


class Ticks(NamedTuple):
    """CPU time of each process so far, in clock ticks, and when that was read."""

    programs: dict[int, tuple[str, int]]
    when_s: float
    total: int = 0
    """CPU time that was spent on some cores by all processes, with those that have ended; 0 if it
    is unknown."""


def read_ticks(root: str = "/proc", cores: Collection[int] = ()) -> Ticks:
    """Read the CPU time of all processes; none where there is no ``/proc``.

    The total is that of ``cores``, of all if there are none: a container may see its own processes
    only, but all cores of its host.
    """
    programs: dict[int, tuple[str, int]] = {}
    names = os.listdir(root) if os.path.isdir(root) else []
    for pid in map(int, filter(str.isdigit, names)):
        try:
            with open(f"{root}/{pid}/stat", encoding="utf-8", errors="replace") as file:
                head, _, tail = file.read().rpartition(")")
            fields = tail.split()
            programs[pid] = head.partition("(")[2], int(fields[11]) + int(fields[12])
        except (OSError, ValueError, IndexError):
            continue  # it has ended
    return Ticks(programs, time.monotonic(), _total(root, cores))


def _total(root: str, cores: Collection[int]) -> int:
    names = {f"cpu{core}" for core in cores} or {"cpu"}
    try:
        with open(f"{root}/stat", encoding="ascii") as file:
            rows = [line.split() for line in file]
        # user, nice and system
        return sum(int(ticks) for row in rows if row and row[0] in names for ticks in row[1:4])
    except (OSError, ValueError):
        return 0


def busiest(before: Ticks, after: Ticks, without: int | None = None) -> list[dict[str, Any]]:
    """Return the programs that took most CPU time, as `hwnas.measurement.measurement.Program`.

    ``without`` is left out: the process that measures. Programs that have ended or are hidden are
    counted together, as what the known processes did not take of the total.
    """
    seconds = max(after.when_s - before.when_s, 1e-3)
    tick_s = 1 / os.sysconf("SC_CLK_TCK") if hasattr(os, "sysconf") else 0.01
    taken = {
        pid: (name, ticks - before.programs.get(pid, (name, 0))[1])
        for pid, (name, ticks) in after.programs.items()
    }
    if before.total and after.total:
        known = sum(ticks for _, ticks in taken.values())
        taken[0] = UNSEEN, after.total - before.total - known
    programs: list[dict[str, Any]] = []
    for pid, (name, ticks) in taken.items():
        cores = ticks * tick_s / seconds
        if pid != without and cores >= MIN_CORES:
            programs.append({"name": name, "pid": pid, "cores": round(cores, 2)})
    return sorted(programs, key=lambda program: -program["cores"])[:MAX_PROGRAMS]
