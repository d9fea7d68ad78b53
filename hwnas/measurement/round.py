"""A round: timed calls of a model, and of a reference model next to them.

A call is undisturbed if other programs took almost no time of it (`MAX_LOST_SHARE`). A latency is
the wall clock of undisturbed calls; if too few are undisturbed it may be CPU time, see
`hwnas.measurement.disturbance`.
"""

from __future__ import annotations

from statistics import median
from typing import Literal

import msgspec

Clock = Literal["wall", "cpu"]
"""The clock of a latency: wall clock of undisturbed calls, or CPU time in wall-clock units."""

MAX_LOST_SHARE, MAX_LOST_MS = 0.01, 0.002
"""Largest share of the wall clock, per thread, that an undisturbed call may lose to other programs,
and the time that reading two clocks one after the other may take, which is allowed in any case."""


class Usage(msgspec.Struct, frozen=True):
    """The scheduler's accounts of each call, in the order of the calls."""

    cpu_ms: tuple[float, ...]
    """CPU time of all threads."""
    lost_ms: tuple[float, ...]
    """Time that other programs took: wall clock less CPU time, or, with several threads, the time
    for which they were ready to run but got no core."""
    switches: tuple[int, ...]
    """Involuntary context switches."""


class Round(msgspec.Struct, frozen=True):
    """Timed calls of a model, and of the reference model next to them."""

    samples_ms: tuple[float, ...]
    """Wall clock of all calls."""
    reference_ms: tuple[float, ...]
    process: int = 0
    """Number of the worker process that ran it."""
    number: int = 0
    """Number of the round in its process, from 1; 0 if it is unknown."""
    usage: Usage | None = None
    """``None``: not known, as on a GPU; then no call counts as disturbed."""
    reference_usage: Usage | None = None
    threads: int = 1
    reference: str = ""
    """File name of the larger reference model, of about the model's size, that was timed; empty:
    the reference model itself."""
    base_ms: tuple[float, ...] = ()
    """Calls of the reference model itself, beside those of a larger one."""
    base_usage: Usage | None = None
    scale: float = 1.0
    """Quiet latency of ``reference`` over that of the reference model itself, the first that was
    measured: latencies are scaled by it."""
    quiet_scale: float | None = None
    """The same, in the newest quiet measurements; ``None``: unknown."""
    probe_ms: tuple[float, ...] = ()
    """Calls of the memory probe, a model whose values exceed the caches; empty: none."""
    probe_usage: Usage | None = None
    probe_scale: float | None = None
    """Quiet latency of the memory probe over that of ``reference``; ``None``: unknown."""
    clock: Clock = "wall"
    wall_per_cpu: float = 1.0
    """Wall clock of a quiet call over its CPU time, where ``clock`` is ``cpu``."""

    @property
    def counted_ms(self) -> tuple[float, ...]:
        """The latencies that count; empty if no call was undisturbed."""
        return self._counted(self.samples_ms, self.usage)

    @property
    def counted_reference_ms(self) -> tuple[float, ...]:
        """Latencies of the reference model, those of a larger one scaled to it."""
        counted_ms = self._counted(self.reference_ms, self.reference_usage)
        return counted_ms if self.scale == 1 else tuple(ms / self.scale for ms in counted_ms)

    @property
    def counted_base_ms(self) -> tuple[float, ...]:
        return self._counted(self.base_ms, self.base_usage)

    @property
    def base_ratio(self) -> float | None:
        """Median latency of ``reference`` in units of the reference model itself; ``None`` without
        undisturbed calls."""
        reference_ms = self._counted(self.reference_ms, self.reference_usage)
        base_ms = self.counted_base_ms
        return median(reference_ms) / median(base_ms) if reference_ms and base_ms else None

    @property
    def probe_ratio(self) -> float | None:
        """Median latency of the memory probe in units of ``reference``; ``None`` without
        undisturbed calls."""
        probe_ms = self._counted(self.probe_ms, self.probe_usage)
        reference_ms = self._counted(self.reference_ms, self.reference_usage)
        return median(probe_ms) / median(reference_ms) if probe_ms and reference_ms else None

    @property
    def usable(self) -> bool:
        """Whether both models have calls that count."""
        return bool(self.counted_ms and self.counted_reference_ms)

    @property
    def ratio(self) -> float:
        """Median latency in units of the reference model's."""
        return median(self.counted_ms) / median(self.counted_reference_ms)

    def _counted(self, wall_ms: tuple[float, ...], usage: Usage | None) -> tuple[float, ...]:
        if usage is None:
            return wall_ms
        if self.clock == "cpu":
            return tuple(self.wall_per_cpu * cpu_ms for cpu_ms in usage.cpu_ms)
        share = MAX_LOST_SHARE * self.threads
        pairs = zip(wall_ms, usage.lost_ms, strict=True)
        return tuple(ms for ms, lost_ms in pairs if lost_ms <= max(MAX_LOST_MS, share * ms))
