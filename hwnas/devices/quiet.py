"""What quiet measurements show about a machine: the ratios of its clocks and of its references.

Each machine, runtime and number of threads has one file, in ``quiet`` of hwnas's own folder. With
one thread wall clock and CPU time agree. With several their ratio depends on the network, so that
CPU time is a poor substitute for wall clock; the spread in the file shows it.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from statistics import median

import msgspec

from hwnas.files import home, write_json
from hwnas.measurement.disturbance import has_other_programs
from hwnas.measurement.measurement import Environment, Measurement
from hwnas.measurement.round import Round

MIN_QUIET_SHARE = 0.9
"""Least share of undisturbed calls for which a model's clocks are compared."""
MAX_SPREAD = 0.02
"""Largest relative distance of a model's clock ratio from the median, for CPU time to count."""
MIN_SIZE_RATIO = 30.0
"""Least ratio of the largest to the smallest latency for several threads, whose clock ratio depends
on the network's size."""
MIN_SCALE_ROUNDS = 6
"""Least number of rounds from which the ratio of two references is taken."""
MAX_POINTS = 64
"""Most models in a file; the newest replace the oldest."""
MAX_RECENT = 9
"""Most ratios of a reference or of the memory probe in a file; the newest replace the oldest."""
PROBE = "probe"
"""Name of the memory probe among the ratios."""


class ClockPoint(msgspec.Struct, frozen=True):
    """The clocks of one model that was measured while the machine was quiet."""

    wall_ms: float
    wall_per_cpu: float


class QuietClocks(msgspec.Struct, frozen=True):
    """The clocks of a machine with one runtime and number of threads."""

    runtime_version: str
    threads: int
    points: tuple[ClockPoint, ...] = ()
    scales: dict[str, float] = {}
    """Latency of each larger reference model over that of the reference model itself. The first
    that is measured stays, so that later latencies compare with earlier ones."""
    recent: dict[str, tuple[float, ...]] = {}
    """The same ratios in the newest quiet measurements, and the latencies of the memory probe over
    those of the reference beside it. Their medians tell whether other programs change them: a
    single measurement may have been beside users of the hardware who are not visible."""

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
    """Return the stored clocks of a machine; none for another version of the runtime."""
    fresh = QuietClocks(environment.runtime_version, environment.threads)
    try:
        data = clocks_file(environment).read_bytes()
        clocks = msgspec.json.decode(data, type=QuietClocks)
    except (OSError, msgspec.DecodeError):
        return fresh
    return clocks if clocks.runtime_version == fresh.runtime_version else fresh


def learn(measurements: Sequence[Measurement]) -> None:
    """Add the quiet models and references of a measurement to the file of their machine.

    Nothing is added while other programs compute: even calls that lose no time to them may be
    slower.
    """
    if any(has_other_programs(measurement.environment) for measurement in measurements):
        return
    points: list[ClockPoint] = []
    for measurement in measurements:
        point = clock_point(measurement.rounds)
        if point is not None:
            points.append(point)
    rounds = [round for measurement in measurements for round in measurement.rounds]
    scales = {name: quiet_scale(rounds, name) for name in {r.reference for r in rounds} - {""}}
    known_scales = {name: scale for name, scale in scales.items() if scale is not None}
    probed = quiet_probe_scale(rounds)
    ratios = known_scales if probed is None else {**known_scales, PROBE: probed}
    if not points and not ratios:
        return
    environment = measurements[0].environment
    clocks = read_clocks(environment)
    points_now = (*clocks.points, *points)[-MAX_POINTS:]
    scales_now = known_scales | clocks.scales
    recent_now = clocks.recent | {
        name: (*clocks.recent.get(name, ()), ratio)[-MAX_RECENT:] for name, ratio in ratios.items()
    }
    now = msgspec.structs.replace(clocks, points=points_now, scales=scales_now, recent=recent_now)
    if now != clocks:
        write_json(clocks_file(environment), now)


def quiet_scale(rounds: Sequence[Round], name: str) -> float | None:
    """Return the latency of a larger reference over the reference's; ``None`` if disturbed."""
    beside = [round for round in rounds if round.reference == name]
    counted = sum(len(r.counted_reference_ms) + len(r.counted_base_ms) for r in beside)
    calls = sum(len(r.reference_ms) + len(r.base_ms) for r in beside)
    if len(beside) < MIN_SCALE_ROUNDS or counted < MIN_QUIET_SHARE * calls:
        return None
    return _scale(beside)


def quiet_probe_scale(rounds: Sequence[Round]) -> float | None:
    """Return the latency of the memory probe over that of the reference beside it; ``None`` if
    disturbed."""
    probed = [round for round in rounds if round.probe_ms]
    ratios = [ratio for round in probed if (ratio := round.probe_ratio)]
    few = len(probed) < MIN_SCALE_ROUNDS or len(ratios) < MIN_QUIET_SHARE * len(probed)
    return None if few else median(ratios)


def with_scale(measurement: Measurement, all_: Sequence[Measurement]) -> Measurement:
    """Return a measurement whose rounds state the ratios of their references and of the memory
    probe.

    The ratios come from the machine's file, that by which a latency is scaled else from all
    measurements of the same call, ``all_``.
    """
    names = {round.reference for round in measurement.rounds} - {""}
    if not names:
        return measurement
    clocks = read_clocks(measurement.environment)
    known = clocks.scales
    quiet = {name: median(ratios) for name, ratios in clocks.recent.items()}
    taken = [round for each in all_ for round in each.rounds]
    scales = {
        name: known.get(name) or _scale([r for r in taken if r.reference == name]) for name in names
    }
    rounds = tuple(
        msgspec.structs.replace(
            round,
            scale=scales.get(round.reference, 1.0),
            quiet_scale=quiet.get(round.reference),
            probe_scale=quiet.get(PROBE) if round.probe_ms else None,
        )
        for round in measurement.rounds
    )
    return msgspec.structs.replace(measurement, rounds=rounds)


def _scale(rounds: Sequence[Round]) -> float:
    """Return the median ratio over rounds, of undisturbed calls where there are any."""
    ratios = [
        median(r.counted_reference_ms or r.reference_ms) / median(r.counted_base_ms or r.base_ms)
        for r in rounds
    ]
    return median(ratios)


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
