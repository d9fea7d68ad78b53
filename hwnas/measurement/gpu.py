"""State of a GPU during a measurement, and the execution of a model on it."""

from __future__ import annotations

import msgspec


class GpuState(msgspec.Struct, frozen=True):
    """State of a GPU after the last run, from NVML. ``None``: not reported by the driver."""

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
    """Reasons for throttling before or after the runs, e.g. ``power cap``."""
    persistence: bool | None = None
    ecc: bool | None = None
    mig: bool | None = None
    others: int | None = None
    """Other processes that computed on it."""


class GpuExecution(msgspec.Struct, frozen=True):
    """Execution of a model on a GPU. Samples exclude transfers: input and output stay on the
    GPU."""

    provider: str
    precision: str
    clock: str
    """Clock of the samples, e.g. ``CUDA events``."""
    batch: int
    wall_ms: float | None
    """Median of the same runs by the machine's clock, including launches and waiting."""
    to_gpu_ms: float
    """Time to copy the input to the GPU."""
    from_gpu_ms: float
    """Time to copy the outputs from the GPU."""
    nodes: dict[str, int] = {}
    """Number of nodes that each provider computed, if the runtime reports it."""
