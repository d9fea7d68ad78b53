"""How much to measure for a latency model, and when to stop."""

from __future__ import annotations

import msgspec


class MeasurePlan(msgspec.Struct, frozen=True, kw_only=True):
    """Settings of `measure_latency_model`."""

    networks: int | None = None
    """Maximum number of networks; ``None``: 24, or with ``minutes`` as many as time permits."""
    goal: float = 0.03
    """Relative half-width of the networks' 90 % interval (median) at which measuring stops."""
    minutes: float | None = None
    """Time limit: the most informative models are measured first, and blocks that were never timed
    are predicted. ``None``: all blocks are timed."""
    accepted: float | None = None
    """Relative half-width up to which an existing model is used although blocks were never timed;
    ``None``: ``goal``."""
    profiled: int = 0
    """Number of networks whose blocks the runtime's profiler times, too."""
    again: bool = False
    """Set an existing model aside and measure anew."""
    seed: int = 0
