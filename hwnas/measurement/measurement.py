"""Latency measurements, their conditions and their statistics.

The speed of a machine drifts, so every sample is taken next to samples of a fixed reference model
(`Round`), and a latency is *ratio to the reference times the reference's calibrated ms*. The ratio
of a round is the median of its samples over the median of its reference samples; the reported
latency is the median over rounds. No call is dropped as an outlier, only those that other programs
disturbed (`hwnas.measurement.round`).
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime
from functools import cached_property
from math import comb
from statistics import fmean, median, stdev
from typing import Literal

import msgspec

from hwnas.measurement.gpu import GpuExecution, GpuState
from hwnas.measurement.round import Clock, Round
from hwnas.measurement.statistics import ratio_interval

Kind = Literal["measured", "cpu-time", "table", "predicted", "simulated", "emulated"]
"""Origin of a latency. Only wall clock of the file on the real device is ``measured``; CPU time,
taken because other programs disturbed the calls, is ``cpu-time``, see
`hwnas.measurement.disturbance`."""

DRIFT_LIMIT = 0.10
"""Relative change of the reference's latency since calibration above which a report warns."""

RESOLUTION = 0.01
"""Relative difference below which two latencies count as equal."""

TOO_NOISY_HALF_WIDTH = 0.25
"""Half-width of the 95 % interval over the median beyond which a latency has no verdict."""

MIN_PROCESSES = 3
"""Least number of processes to estimate the spread between processes."""


class Program(msgspec.Struct, frozen=True):
    """Another program that computed during a measurement."""

    name: str
    pid: int
    """0: programs that began and ended meanwhile, counted together."""
    cores: float
    """CPU time per second; 1 is a whole core."""


class Environment(msgspec.Struct, frozen=True):
    """The conditions of a measurement. ``None``: not reported by the system."""

    device: str
    """Name of the device profile."""
    fingerprint: str
    """Hash of the hardware; a latency model is valid for one fingerprint."""
    hardware: str
    """Description of the hardware, e.g. the CPU model and its cores."""
    runtime: str
    runtime_version: str
    threads: int
    when: str
    """Start time, ISO 8601 with time zone; empty for simulated devices."""
    affinity: tuple[int, ...] = ()
    """Logical processors that the worker was pinned to; empty: not pinned."""
    system: str = ""
    governor: str | None = None
    frequency_mhz: float | None = None
    temperature_c: float | None = None
    load_before: float | None = None
    load_after: float | None = None
    steal_s: float | None = None
    """CPU time that the hypervisor gave to others during the measurement."""
    cores: int | None = None
    """Logical processors that the measuring process could have used."""
    programs: tuple[Program, ...] = ()
    """Other programs that computed during the measurement, the busiest first."""
    gpu: GpuState | None = None


class Measurement(msgspec.Struct, frozen=True, dict=True):
    """All samples of one model on one device, with their statistics."""

    name: str
    """Name of the model: a block key, the digest of an architecture, a file name."""
    rounds: tuple[Round, ...]
    environment: Environment
    calibrated_reference_ms: float | None = None
    """Latency of the reference model when the device's latency model was fitted; ``None``: not
    calibrated, milliseconds are those of this run."""
    kind: Kind = "measured"
    sha256: str = ""
    """Hash of the measured file."""
    first_run_ms: float | None = None
    load_ms: float | None = None
    """Time to create the session or interpreter from the file."""
    batch: int = 1
    """Inputs per call."""
    input_shapes: dict[str, tuple[int, ...]] = {}
    """Shape of each input, with the batch; empty if unknown."""
    on_gpu: GpuExecution | None = None
    disturbed_rounds: int = 0
    """Rounds that are left out, since other programs disturbed all calls of a model or the
    reference was slower than in the fastest rounds."""

    @property
    def clock(self) -> Clock:
        """The clock of the latency: wall clock, or CPU time."""
        return self.rounds[0].clock

    @property
    def samples_ms(self) -> tuple[float, ...]:
        """All samples that count, in chronological order, without calibration."""
        return tuple(sample for round in self.rounds for sample in round.counted_ms)

    @cached_property
    def ratio(self) -> float:
        """Median latency in units of the reference model's."""
        return median(round.ratio for round in self.rounds)

    @cached_property
    def reference_ms(self) -> float:
        """Median latency of the reference model in this run."""
        return median(ms for round in self.rounds for ms in round.counted_reference_ms)

    @property
    def median_ms(self) -> float:
        """The reported latency: calibrated, if a calibration is known."""
        return self.ratio * (self.calibrated_reference_ms or self.reference_ms)

    @property
    def raw_median_ms(self) -> float:
        """Median of this run's samples, without calibration."""
        return median(self.samples_ms)

    @property
    def min_ms(self) -> float:
        return min(self._calibrated_ms)

    @property
    def p90_ms(self) -> float:
        return quantile(self._calibrated_ms, 0.90)

    @property
    def p99_ms(self) -> float:
        return quantile(self._calibrated_ms, 0.99)

    @property
    def ci95_ms(self) -> tuple[float, float]:
        """95 % confidence interval of the median, over rounds."""
        low, high = median_interval(sorted(round.ratio for round in self.rounds))
        scale_ms = self.calibrated_reference_ms or self.reference_ms
        return low * scale_ms, high * scale_ms

    @property
    def cv(self) -> float:
        """Coefficient of variation of the ratios of rounds."""
        ratios = [round.ratio for round in self.rounds]
        return stdev(ratios) / fmean(ratios) if len(ratios) > 1 else 0.0

    @property
    def standard_error(self) -> float:
        """Relative standard error of the median ratio, from the interquartile range of rounds."""
        ratios = sorted(round.ratio for round in self.rounds)
        spread = (quantile(ratios, 0.75) - quantile(ratios, 0.25)) / 1.349
        return 1.2533 * spread / len(ratios) ** 0.5 / self.ratio

    @property
    def drift(self) -> float:
        """Relative change of the reference's latency since calibration; 0 without one."""
        if self.calibrated_reference_ms is None:
            return 0.0
        return self.reference_ms / self.calibrated_reference_ms - 1

    def raw(self) -> Measurement:
        """Return the measurement without calibration, with a reference latency of 1 ms."""
        rounds = tuple(
            msgspec.structs.replace(round, reference_ms=(1.0,), reference_usage=None, scale=1.0)
            for round in self.rounds
        )
        return msgspec.structs.replace(self, rounds=rounds, calibrated_reference_ms=1.0)

    @cached_property
    def _calibrated_ms(self) -> list[float]:
        """All samples in order of size, each scaled by the reference latency of its round."""
        target_ms = self.calibrated_reference_ms or self.reference_ms
        return sorted(
            sample * target_ms / median(round.counted_reference_ms)
            for round in self.rounds
            for sample in round.counted_ms
        )


class Comparison(msgspec.Struct, frozen=True):
    """Latency of one model over that of another, with the 95 % interval."""

    ratio: float
    low: float
    high: float

    @property
    def tie(self) -> bool:
        """Whether neither model is significantly faster by more than `RESOLUTION`."""
        return self.low <= 1 + RESOLUTION and self.high >= 1 - RESOLUTION


def compare(a: Measurement, b: Measurement) -> Comparison:
    """Return the latency of ``a`` over that of ``b``, from ratios of paired rounds.

    Rounds are paired by their index in a process: in one batch, the rounds with the same index were
    measured one after the other. A model that became steady early has fewer rounds, so only those
    that both have are compared. For two separate batches any pairing is equally good, and the
    interval is wider. The independent repetitions are the processes, so the interval is over their
    medians; with fewer than `MIN_PROCESSES` it is over rounds.
    """
    paired = _pairs(a.rounds, b.rounds)
    if len(paired) >= MIN_PROCESSES:
        return Comparison(*ratio_interval([median(ratios) for ratios in paired]))
    ratios = sorted(ratio for process in paired for ratio in process)
    return Comparison(median(ratios), *median_interval(ratios))


def _pairs(a: tuple[Round, ...], b: tuple[Round, ...]) -> list[list[float]]:
    """Return the ratios of rounds paired in order, process by process.

    If the two share no process, all rounds are paired as if they were from one.
    """
    shared = sorted({round.process for round in a} & {round.process for round in b})
    paired = [
        _ratios(
            [round for round in a if round.process == process],
            [round for round in b if round.process == process],
        )
        for process in shared
    ]
    return paired or [_ratios(a, b)]


def _ratios(a: Sequence[Round], b: Sequence[Round]) -> list[float]:
    """Return the ratios of rounds with the same number, or in order where a number is missing."""
    numbered = {round.number: round for round in b}
    pairs = [(first, numbered[first.number]) for first in a if first.number in numbered]
    if 0 in numbered or not pairs:
        pairs = list(zip(a, b, strict=False))
    return [first.ratio / second.ratio for first, second in pairs]


def quantile(ordered: list[float], share: float) -> float:
    """Return the linearly interpolated quantile of sorted numbers."""
    position = share * (len(ordered) - 1)
    below = int(position)
    above = min(below + 1, len(ordered) - 1)
    return ordered[below] + (position - below) * (ordered[above] - ordered[below])


def median_interval(ordered: list[float], confidence: float = 0.95) -> tuple[float, float]:
    """Return a distribution-free confidence interval of the median, by order statistics.

    It is the narrowest symmetric pair of order statistics that covers the median with at least
    ``confidence``; with fewer than six values no pair does, and the range is returned.
    """
    count = len(ordered)
    outside, rank = 0.0, 0
    while rank < count // 2:
        outside += 2 * comb(count, rank) / 2**count
        if outside > 1 - confidence:
            break
        rank += 1
    rank = max(rank - 1, 0)
    return ordered[rank], ordered[count - 1 - rank]


def local_time() -> str:
    """Return the time now, ISO 8601 to the second with time zone."""
    return datetime.now(UTC).astimezone().isoformat(timespec="seconds")
