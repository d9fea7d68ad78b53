"""How wall clock and CPU time of quiet calls agree on a machine, learnt from quiet measurements.

One file for each machine, runtime and number of threads, in ``quiet`` of hwnas's own folder. With
one thread both clocks agree. With several their ratio depends on the network, so that CPU time
says little about wall clock there, and the spread in the file shows it.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from statistics import median

import msgspec

from hwnas.files import home, write_json
from hwnas.measurement.measurement import Environment, Measurement
from hwnas.measurement.round import Round

MIN_QUIET_SHARE = 0.9
"""Share of undisturbed calls from which a model's clocks are compared."""
MAX_SPREAD = 0.02
"""Largest relative distance of a model's clock ratio from the median, for CPU time to count."""
MIN_SIZE_RATIO = 30.0
"""Range of latencies that several threads need, as their ratio depends on the network's size."""
MAX_POINTS = 64
"""Models that a file has; the newest replace the oldest."""


class ClockPoint(msgspec.Struct, frozen=True):
    """The clocks of one model that was measured while the machine was quiet."""

    wall_ms: float
    wall_per_cpu: float


class QuietClocks(msgspec.Struct, frozen=True):
    """The clocks of a machine with one runtime and number of threads."""

    runtime_version: str
    threads: int
    points: tuple[ClockPoint, ...] = ()

    @property
    def wall_per_cpu(self) -> float | None:
        """Wall clock of a quiet call over its CPU time; ``None`` if models differ too much."""
        if len(self.points) < 2:
            return None
        centre = median(point.wall_per_cpu for point in self.points)
        spread = max(abs(point.wall_per_cpu / centre - 1) for point in self.points)
        sizes_ms = [point.wall_ms for point in self.points]
        wide = self.threads == 1 or max(sizes_ms) >= MIN_SIZE_RATIO * min(sizes_ms)
        return centre if wide and spread <= MAX_SPREAD else None


def read_clocks(environment: Environment) -> QuietClocks:
    """Return what is known of a machine; nothing for another version of the runtime."""
    fresh = QuietClocks(environment.runtime_version, environment.threads)
    try:
        data = clocks_file(environment).read_bytes()
        clocks = msgspec.json.decode(data, type=QuietClocks)
    except (OSError, msgspec.DecodeError):
        return fresh
    return clocks if clocks.runtime_version == fresh.runtime_version else fresh


def learn_clocks(measurements: Sequence[Measurement]) -> None:
    """Add the quiet models of a measurement to the file of their machine."""
    points: list[ClockPoint] = []
    for measurement in measurements:
        point = clock_point(measurement.rounds)
        if point is not None:
            points.append(point)
    if not points:
        return
    environment = measurements[0].environment
    clocks = read_clocks(environment)
    points_now = (*clocks.points, *points)[-MAX_POINTS:]
    write_json(clocks_file(environment), msgspec.structs.replace(clocks, points=points_now))


def clock_point(rounds: Sequence[Round]) -> ClockPoint | None:
    """Return the clocks of a model's own calls; ``None`` if they were disturbed or not counted."""
    calls = [
        (wall_ms, cpu_ms)
        for round in rounds
        if round.usage is not None and round.clock == "wall"
        for wall_ms, cpu_ms in zip(round.samples_ms, round.usage.cpu_ms, strict=True)
    ]
    quiet = sum(len(round.counted_ms) for round in rounds)
    if not calls or quiet < MIN_QUIET_SHARE * len(calls) or min(cpu for _, cpu in calls) <= 0:
        return None
    wall_ms = median(wall_ms for wall_ms, _ in calls)
    return ClockPoint(wall_ms, median(wall_ms / cpu_ms for wall_ms, cpu_ms in calls))


def clocks_file(environment: Environment) -> Path:
    name = f"{environment.fingerprint}-{environment.runtime}-{environment.threads}.json"
    return home() / "quiet" / name
