"""Which other programs computed while something was measured; standard library only."""

from __future__ import annotations

import os
import time
from typing import Any, NamedTuple

MAX_PROGRAMS = 3
MIN_CORES = 0.05
"""Share of a core below which a program is not worth naming."""
SHORT_LIVED = "short-lived programs"
"""Name of the programs that began and ended in between, such as those of a build; their process id
is 0."""


class Ticks(NamedTuple):
    """CPU time of each process so far, in clock ticks, and when that was read."""

    programs: dict[int, tuple[str, int]]
    when_s: float
    total: int = 0
    """CPU time of all processes, with those that have ended; 0 if it is unknown."""


def read_ticks(root: str = "/proc") -> Ticks:
    """Read the CPU time of all processes; none where there is no ``/proc``."""
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
    return Ticks(programs, time.monotonic(), _total(root))


def _total(root: str) -> int:
    try:
        with open(f"{root}/stat", encoding="ascii") as file:
            user, nice, system = map(int, file.readline().split()[1:4])
    except (OSError, ValueError):
        return 0
    return user + nice + system


def busiest(before: Ticks, after: Ticks, without: int | None = None) -> list[dict[str, Any]]:
    """Return the programs that took most CPU time, as `hwnas.measurement.measurement.Program`.

    ``without`` is left out: the process that measures. Programs that have ended are counted
    together, as what the known processes did not take of the CPU time of all.
    """
    seconds = max(after.when_s - before.when_s, 1e-3)
    tick_s = 1 / os.sysconf("SC_CLK_TCK") if hasattr(os, "sysconf") else 0.01
    taken = {
        pid: (name, ticks - before.programs.get(pid, (name, 0))[1])
        for pid, (name, ticks) in after.programs.items()
    }
    if before.total and after.total:
        ended = after.total - before.total - sum(ticks for _, ticks in taken.values())
        taken[0] = SHORT_LIVED, ended
    programs: list[dict[str, Any]] = []
    for pid, (name, ticks) in taken.items():
        cores = ticks * tick_s / seconds
        if pid != without and cores >= MIN_CORES:
            programs.append({"name": name, "pid": pid, "cores": round(cores, 2)})
    return sorted(programs, key=lambda program: -program["cores"])[:MAX_PROGRAMS]
