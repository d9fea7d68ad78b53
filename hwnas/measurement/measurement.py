"""What was measured, under which conditions, and the statistics that are reported of it.

A machine's speed drifts, so every sample is taken beside samples of a fixed reference model
(`Round`), and a latency is *ratio to the reference times the reference's calibrated ms*.
The ratio of a round is the median of its samples over the median of its reference samples; the
headline is the median of the rounds' ratios. Nothing is dropped as an outlier.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property
from math import comb
from statistics import fmean, median, stdev
from typing import Literal

import msgspec

from hwnas.measurement.statistics import ratio_interval

Kind = Literal["measured", "table", "predicted", "simulated", "emulated"]
"""Where a latency comes from. Only a run of the file on the real device is ``measured``."""

DRIFT_LIMIT = 0.10
"""Relative change of the reference's speed since its calibration that a report must tell."""

RESOLUTION = 0.01
"""A difference is only claimed where its 95 % interval lies beyond this."""

TOO_NOISY_HALF_WIDTH = 0.25
"""Half-width of the 95 % interval over the median beyond which a latency has no verdict."""

PROCESSES_NEEDED = 3
"""Fewer processes than these say nothing of the spread between processes."""


class GpuState(msgspec.Struct, frozen=True):
    """What NVML says of a GPU, after the last run. ``None``: this driver does not say."""

    name: str
    uuid: str = ""
    driver: str = ""
    memory_bytes: int | None = None
    sm_clock_mhz: float | None = None
    max_sm_clock_mhz: float | None = None
    memory_clock_mhz: float | None = None
    temperature_c: float | None = None
    power_w: float | None = None
    power_limit_w: float | None = None
    slowed_by: tuple[str, ...] = ()
    """What kept its clock down, before or after: power cap, heat…"""
    persistence: bool | None = None
    ecc: bool | None = None
    mig: bool | None = None
    others: int | None = None
    """Processes of others that computed on it."""


class GpuExecution(msgspec.Struct, frozen=True):
    """How a model ran on a GPU. Samples are of the computing alone, its input being there."""

    provider: str
    precision: str
    clock: str
    """What took the samples, e.g. ``CUDA events``."""
    batch: int
    wall_ms: float | None
    """The same runs by the machine's clock: launches and waiting included."""
    to_gpu_ms: float
    """Copying the input there, not in the samples."""
    from_gpu_ms: float
    """Copying the outputs back, not in the samples."""
    nodes: dict[str, int] = {}
    """How many nodes each provider computed, where the runtime tells."""


class Environment(msgspec.Struct, frozen=True):
    """The conditions of a measurement. ``None``: this system does not say."""

    device: str
    """Name of the device profile."""
    fingerprint: str
    """Names the hardware; a latency model is valid for one fingerprint."""
    hardware: str
    """The same in words, e.g. the processor's name and its cores."""
    runtime: str
    runtime_version: str
    threads: int
    when: str
    """Start, ISO 8601 with time zone."""
    affinity: tuple[int, ...] = ()
    """Logical processors the worker was pinned to; empty: not pinned."""
    system: str = ""
    governor: str | None = None
    frequency_mhz: float | None = None
    temperature_c: float | None = None
    load_before: float | None = None
    load_after: float | None = None
    steal_s: float | None = None
    """Time during the measurement that the hypervisor gave to others."""
    gpu: GpuState | None = None


class Round(msgspec.Struct, frozen=True):
    """One visit to a model: its calls, and the reference model's calls taken beside them."""

    samples_ms: tuple[float, ...]
    reference_ms: tuple[float, ...]
    process: int = 0
    """Number of the worker process, of those that one model's rounds were spread over."""

    @property
    def ratio(self) -> float:
        return median(self.samples_ms) / median(self.reference_ms)


class Measurement(msgspec.Struct, frozen=True, dict=True):
    """All samples of one model on one device, and what they say."""

    name: str
    """What was measured: a block key, an architecture's digest, a file's name."""
    rounds: tuple[Round, ...]
    environment: Environment
    calibrated_reference_ms: float | None = None
    """The reference model's latency that the device's latency model was calibrated with;
    ``None``: not calibrated, milliseconds are those of this run."""
    kind: Kind = "measured"
    sha256: str = ""
    """Of the measured file."""
    first_run_ms: float | None = None
    load_ms: float | None = None
    """Time to make the session or interpreter from the file."""
    batch: int = 1
    """Inputs that one call computes."""
    on_gpu: GpuExecution | None = None

    @property
    def samples_ms(self) -> tuple[float, ...]:
        """All raw samples in the order they were taken."""
        return tuple(sample for round in self.rounds for sample in round.samples_ms)

    @cached_property
    def ratio(self) -> float:
        """Latency in units of the reference model's."""
        return median(round.ratio for round in self.rounds)

    @cached_property
    def reference_ms(self) -> float:
        """The reference model's median in this run."""
        return median(sample for round in self.rounds for sample in round.reference_ms)

    @property
    def median_ms(self) -> float:
        return self.ratio * (self.calibrated_reference_ms or self.reference_ms)

    @property
    def raw_median_ms(self) -> float:
        """The median of this run's samples as the clock gave them."""
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
        """Standard deviation over mean of the rounds' ratios: the spread that drift leaves."""
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
        """Relative change of the reference's speed since its calibration (0 if none)."""
        if self.calibrated_reference_ms is None:
            return 0.0
        return self.reference_ms / self.calibrated_reference_ms - 1

    def raw(self) -> Measurement:
        """Return the same samples as the clock gave them: a reference that never varies."""
        rounds = tuple(Round(round.samples_ms, (1.0,), round.process) for round in self.rounds)
        return msgspec.structs.replace(self, rounds=rounds, calibrated_reference_ms=1.0)

    @cached_property
    def _calibrated_ms(self) -> list[float]:
        """All samples, each scaled by what its round's reference says of the machine's speed."""
        target_ms = self.calibrated_reference_ms or self.reference_ms
        return sorted(
            sample * target_ms / median(round.reference_ms)
            for round in self.rounds
            for sample in round.samples_ms
        )


class Comparison(msgspec.Struct, frozen=True):
    """How many times as long one model takes as another, with the 95 % interval."""

    ratio: float
    low: float
    high: float

    @property
    def tie(self) -> bool:
        """Whether the data leave open which of the two is faster by more than `RESOLUTION`."""
        return self.low <= 1 + RESOLUTION and self.high >= 1 - RESOLUTION


def compare(a: Measurement, b: Measurement) -> Comparison:
    """Return the latency of ``a`` over that of ``b``, by ratios of paired rounds.

    Rounds are paired by their index in a process: in one batch the rounds of one index were taken
    one after the other. A model that became steady early has fewer rounds, so only the rounds that
    both have are compared. Of two batches any pairing is as good as another, and the interval is
    wider. The processes of a batch are the independent repetitions, so the interval is over their
    medians; with fewer than three of them it is over rounds.
    """
    paired = _pairs(a.rounds, b.rounds)
    if len(paired) >= PROCESSES_NEEDED:
        return Comparison(*ratio_interval([median(ratios) for ratios in paired]))
    ratios = sorted(ratio for process in paired for ratio in process)
    return Comparison(median(ratios), *median_interval(ratios))


def _pairs(a: tuple[Round, ...], b: tuple[Round, ...]) -> list[list[float]]:
    """Return the ratios of rounds paired in order, process by process.

    Where the two share no process, all rounds are paired as if of one.
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
    return [mine.ratio / other.ratio for mine, other in zip(a, b, strict=False)]


def quantile(ordered: list[float], share: float) -> float:
    """Return the linearly interpolated quantile of sorted numbers."""
    position = share * (len(ordered) - 1)
    below = int(position)
    above = min(below + 1, len(ordered) - 1)
    return ordered[below] + (position - below) * (ordered[above] - ordered[below])


def median_interval(ordered: list[float], confidence: float = 0.95) -> tuple[float, float]:
    """Distribution-free confidence interval of the median, by order statistics.

    Returns the narrowest symmetric pair of order statistics that covers the median with at least
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
