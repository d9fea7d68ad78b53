"""Latencies measured while other programs compute.

A latency is the wall clock of undisturbed calls if enough rounds have any. Otherwise it is CPU
time, if wall clock and CPU time of quiet calls are known to agree on this machine and the CPU time
repeats well enough. Otherwise there is no latency.

Users of the hardware who are not visible, such as other virtual machines on the same core, slow
down the reference model, too, but a network by another factor. They come and go within seconds, so
the rounds count in which the reference was as fast as in the fastest tenth, if these are enough.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from math import ceil
from statistics import median

import msgspec

from hwnas.errors import TooNoisy
from hwnas.measurement.measurement import (
    MIN_PROCESSES,
    Environment,
    Kind,
    Measurement,
    Program,
    quantile,
)
from hwnas.measurement.round import Round

MIN_USABLE_SHARE = 0.5
"""Share of ``min_rounds`` that must have undisturbed calls for wall clock to count."""
MAX_SHARED_CORES = 0.15
"""Cores that the threads of a measurement and other programs may need beyond those of the
machine."""
MAX_SLOWER = 0.05
"""Relative distance of a round's reference latency from that of the fastest tenth of all rounds,
beyond which the round does not count."""
FASTEST_SHARE = 0.1
"""Share of the rounds that are the fastest ones."""
MAX_CONTENTION = 0.025
"""Largest `contention` by other programs for which there is a latency."""
MAX_HIDDEN_CONTENTION = 0.06
"""Largest `contention` without a visible program that is not remarked upon. It stays within 5 % on
a quiet virtual machine."""
MAX_MEMORY_CHANGE = 0.05
"""Largest `memory_change` by other programs for which a network much slower than the references
has a latency. The memory probe repeats within 4 % on a quiet virtual machine."""
MIN_OTHER_CORES = 0.25
"""Least number of cores used by other programs at which a latency of undisturbed calls is doubted:
the programs share caches, memory and clock rate with the model."""
MAX_CPU_HALF_WIDTH = 0.05
"""Largest half-width of the 95 % interval over the median for which CPU time is a latency."""


class Disturbed(TooNoisy):
    """Latencies that other programs disturbed too much.

    ``measurements`` has those of the same call, with ``None`` for each that has no latency.
    """

    def __init__(self, message: str, measurements: Sequence[Measurement | None] = ()) -> None:
        super().__init__(message)
        self.measurements = tuple(measurements)


def settle(
    measurement: Measurement, min_rounds: int, wall_per_cpu: float | None
) -> Measurement | None:
    """Return the measurement with the clock that counts; ``None`` if it has no latency.

    ``wall_per_cpu`` is the wall clock of a quiet call over its CPU time; ``None`` if it is unknown.
    """
    settled = counted(measurement, min_rounds, wall_per_cpu)
    return None if settled is None or is_contended(settled) else settled


def counted(
    measurement: Measurement, min_rounds: int, wall_per_cpu: float | None
) -> Measurement | None:
    """Return the measurement with the rounds and the clock that count, whether or not other
    programs change how models compare; ``None`` if too few do."""
    rounds = measurement.rounds
    usable = tuple(round for round in rounds if round.usable)
    shared = measurement.environment.threads > 1 and shares_cores(measurement.environment)
    enough = min(len(rounds), ceil(MIN_USABLE_SHARE * min_rounds))
    if not shared and len(usable) >= enough:
        fast = fast_rounds(usable, enough)
        left_out = len(rounds) - len(fast)
        return msgspec.structs.replace(measurement, rounds=fast, disturbed_rounds=left_out)
    if wall_per_cpu is None or not rounds[0].usage:
        return None
    in_cpu_time = tuple(
        msgspec.structs.replace(round, clock="cpu", wall_per_cpu=wall_per_cpu) for round in rounds
    )
    kind: Kind = "cpu-time" if measurement.kind == "measured" else measurement.kind
    by_cpu = msgspec.structs.replace(measurement, rounds=in_cpu_time, kind=kind)
    low_ms, high_ms = by_cpu.ci95_ms
    return by_cpu if (high_ms - low_ms) / 2 <= MAX_CPU_HALF_WIDTH * by_cpu.median_ms else None


def fast_rounds(rounds: Sequence[Round], enough: int) -> tuple[Round, ...]:
    """Return the rounds whose reference was about as fast as in the fastest tenth of them.

    All rounds are returned if fewer than ``enough`` would be left, or rounds of fewer than
    `MIN_PROCESSES` processes, over which intervals are computed; on a GPU, whose clock follows its
    load; and if they are beside different references.
    """
    if any(round.usage is None for round in rounds) or len({r.reference for r in rounds}) > 1:
        return tuple(rounds)
    reference_ms = [median(round.counted_reference_ms) for round in rounds]
    fastest_ms = quantile(sorted(reference_ms), FASTEST_SHARE)
    fast = tuple(
        round
        for round, ms in zip(rounds, reference_ms, strict=True)
        if ms <= (1 + MAX_SLOWER) * fastest_ms
    )
    processes, left = ({round.process for round in part} for part in (rounds, fast))
    few = len(fast) < enough or len(left) < min(len(processes), MIN_PROCESSES)
    return tuple(rounds) if few else fast


def shares_cores(environment: Environment) -> bool:
    """Whether other programs needed cores that the threads of a measurement used, too.

    The kernel counts no lost time for a thread that sleeps until its core is free, so a call of
    several threads can be slow although it counts as undisturbed.
    """
    taken = sum(program.cores for program in environment.programs)
    cores = environment.cores
    return cores is not None and environment.threads + taken > cores + MAX_SHARED_CORES


def is_contended(measurement: Measurement) -> bool:
    """Whether other programs slow down models by different factors, through caches and memory.

    Then ratios of latencies differ from those on a quiet machine, although no call lost time.
    """
    rounds = measurement.rounds
    changes = (contention(rounds) or 0.0, memory_change(rounds) or 0.0)
    beyond = abs(changes[0]) > MAX_CONTENTION or abs(changes[1]) > MAX_MEMORY_CHANGE
    return beyond and has_other_programs(measurement.environment)


def contention(rounds: Sequence[Round]) -> float | None:
    """Return the relative change of a larger reference's latency, in units of the reference
    model's, since the machine was quiet; ``None`` if either is unknown."""
    changes = [
        ratio / round.quiet_scale - 1
        for round in rounds
        if round.quiet_scale and (ratio := round.base_ratio)
    ]
    return median(changes) if changes else None


def memory_change(rounds: Sequence[Round]) -> float | None:
    """Return the relative change of the memory probe's latency, in units of the reference beside
    it, since the machine was quiet; ``None`` if either is unknown."""
    changes = [
        ratio / round.probe_scale - 1
        for round in rounds
        if round.probe_scale and (ratio := round.probe_ratio)
    ]
    return median(changes) if changes else None


def has_other_programs(environment: Environment) -> bool:
    """Whether other programs computed, which share caches and memory with the measured model."""
    return sum(program.cores for program in environment.programs) >= MIN_OTHER_CORES


def doubt_line(measurements: Sequence[Measurement]) -> str:
    """Return a remark on latencies that may differ from those of a quiet machine; empty if there
    is no reason to think so.

    The measurements are of the same call, so they have the same conditions.
    """
    environment = measurements[0].environment
    if has_other_programs(environment):
        return (
            f"Other programs computed meanwhile ({load_text(environment)}), which share caches and "
            "memory: in hwnas's own tests most of such latencies were within 3% of those of a "
            "quiet machine, but some were off by up to 21%."
        )
    changes = [contention(measurement.rounds) or 0.0 for measurement in measurements]
    change = max(changes, key=abs)
    if abs(change) <= MAX_HIDDEN_CONTENTION:
        return ""
    return (
        f"A larger reference model takes {change:+.0%} against the reference model, compared with "
        "earlier quiet measurements, though no other program computed: the hardware may have users "
        "who are not visible here, such as other virtual machines, or its clock rates changed. "
        "Latencies of other sizes may be off by as much; measure again later."
    )


def joined(first: Measurement, second: Measurement) -> Measurement:
    """Return one measurement with the rounds of two of the same file.

    If only one of them is in wall clock, the other is dropped.
    """
    if first.clock != second.clock:
        return first if first.clock == "wall" else second
    return msgspec.structs.replace(
        first,
        rounds=first.rounds + second.rounds,
        disturbed_rounds=first.disturbed_rounds + second.disturbed_rounds,
    )


def disturbed_line(
    measurement: Measurement, more: int = 0, with_counted: Measurement | None = None
) -> str:
    """Return why a measurement has no latency: how much was disturbed, by whom, and what to do.

    ``more`` is the number of further models of the same call without a latency; ``with_counted`` is
    what `counted` makes of the measurement.
    """
    rounds = measurement.rounds
    calls = sum(len(round.samples_ms) for round in rounds)
    undisturbed = sum(len(round.counted_ms) for round in rounds)
    others = f" (and {more} more)" if more else ""
    cause = f"disturbed {calls - undisturbed} of {calls} calls"
    judged = with_counted or measurement
    if is_contended(judged):
        cause += " and change caches and memory, so that " + _changed(judged.rounds)
    return (
        f"{measurement.name}{others}: other programs {cause}, so there is no latency; "
        f"{load_text(measurement.environment)}; close them, or wait for a quiet core with "
        "--wait-idle 10m"
    )


def _changed(rounds: Sequence[Round]) -> str:
    """Return how the models beside a measurement changed against each other."""
    change, memory = contention(rounds) or 0.0, memory_change(rounds) or 0.0
    if abs(change) > MAX_CONTENTION:
        return f"one reference model takes {change:+.0%} against another"
    return f"a model larger than the caches takes {memory:+.0%} against a small one"


def load_text(environment: Environment) -> str:
    """Return the load and the busiest other programs in a few words."""
    load = environment.load_after or environment.load_before
    busiest = programs_text(environment.programs)
    return f"load {load or 0:.1f}: {busiest or 'programs that are not visible from here'}"


def programs_text(programs: Iterable[Program]) -> str:
    """Return the names of programs, their process ids and what they take of a core."""
    return ", ".join(
        f"{program.name}{f' ({program.pid})' if program.pid else ''} {program.cores:.0%} of a core"
        for program in programs
    )
