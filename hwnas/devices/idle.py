"""Waiting until enough cores of this machine are quiet."""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Callable, Collection, Iterable
from pathlib import Path
from typing import NamedTuple

import msgspec

from hwnas.devices.profile import DeviceProfile
from hwnas.devices.worker.load import Ticks, busiest, read_ticks
from hwnas.errors import TooNoisy
from hwnas.measurement.disturbance import programs_text
from hwnas.measurement.measurement import Program

CHECK_S = 1.0
"""Time between two checks of the cores."""
QUIET_CHECKS = 3
"""Consecutive checks at which the cores must be quiet."""
MIN_IDLE_SHARE = 0.9
"""Share of its time that a quiet core is idle."""


class CoreTimes(NamedTuple):
    """Time of the cores since boot, in clock ticks."""

    idle: int
    total: int


class Clock(NamedTuple):
    """The machine's clock; tests use another."""

    now_s: Callable[[], float] = time.monotonic
    sleep: Callable[[float], None] = time.sleep


def waiting(profile: DeviceProfile, wait_idle_s: float) -> DeviceProfile:
    """Return this machine's profile with that longest wait for quiet cores before it measures."""
    if not wait_idle_s or profile.transport != "local":
        return profile
    spec = msgspec.structs.replace(profile.measure, wait_idle_s=wait_idle_s)
    return msgspec.structs.replace(profile, measure=spec)


def wait_idle(
    threads: int,
    cores: Iterable[int],
    limit_s: float,
    say: Callable[[str], None] | None = None,
    *,
    root: Path = Path("/"),
    clock: Clock | None = None,
) -> None:
    """Wait until as many of ``cores`` as there are ``threads`` are idle at the same time.

    Other programs that together need one core count as one busy core, whichever cores they run on.
    A message names what it waits for. Raises `TooNoisy` after ``limit_s``. Returns at once without
    ``/proc/stat``.
    """
    clock, cores = clock or Clock(), set(cores)
    names = {f"cpu{core}" for core in cores}
    end_s, quiet, announced = clock.now_s() + limit_s, 0, False
    before, ticks = _read_cores(root, names), read_ticks(str(root / "proc"), cores)
    while before is not None:
        clock.sleep(CHECK_S)
        after = _read_cores(root, names)
        if after is None:
            return
        idle_cores = len(names) * (after.idle - before.idle) / max(after.total - before.total, 1)
        quiet = quiet + 1 if idle_cores >= MIN_IDLE_SHARE * threads else 0
        if quiet >= QUIET_CHECKS:
            return
        if not quiet and (not announced or clock.now_s() >= end_s):
            load = _load(root, ticks, idle_cores, cores)
            if clock.now_s() >= end_s:
                raise TooNoisy(
                    f"no quiet core within {_duration(limit_s)} for {threads} "
                    f"thread{'s' if threads > 1 else ''}: {load}; close them, or measure later"
                )
            (say or _say)(f"waiting for a quiet core, at most {_duration(limit_s)}: {load}")
            announced = True
        before, ticks = after, read_ticks(str(root / "proc"), cores)


def _duration(seconds: float) -> str:
    return f"{seconds / 60:g} min" if seconds >= 60 else f"{seconds:g} s"


def _say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


def _load(root: Path, ticks: Ticks, idle_cores: float, cores: Collection[int]) -> str:
    programs = busiest(ticks, read_ticks(str(root / "proc"), cores), os.getpid())
    named = programs_text(Program(**program) for program in programs)
    count = len(cores)
    busy = f"{count - idle_cores:.1f} of {count} core{'s' if count > 1 else ''} busy"
    return f"{busy}: {named}" if named else busy


def _read_cores(root: Path, names: set[str]) -> CoreTimes | None:
    """Return the summed times of cores; ``None`` if this system does not report them."""
    try:
        lines = (root / "proc/stat").read_text(encoding="ascii").splitlines()
        rows = [line.split() for line in lines if line.split(" ", 1)[0] in names]
        ticks = [[int(word) for word in row[1:9]] for row in rows]
    except (OSError, ValueError):
        return None
    # user, nice, system, idle, iowait, irq, softirq, steal
    return CoreTimes(sum(t[3] + t[4] for t in ticks), sum(map(sum, ticks))) if ticks else None
