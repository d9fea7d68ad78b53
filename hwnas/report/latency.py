"""Latencies in the report, and the model that predicted them.

Latencies are milliseconds of one call at batch size 1. Every latency is stated with its kind, its
origin (`hwnas.measurement.measurement.Kind`).
"""

from __future__ import annotations

from typing import Literal, Self

import msgspec

from hwnas.measurement.measurement import Environment, Kind, Measurement


class Latency(msgspec.Struct, frozen=True, kw_only=True):
    """Latency of the delivered file; a field is ``None`` if this kind of latency lacks it."""

    kind: Kind
    median_ms: float
    """The latency that is compared with the budget: calibrated, see
    `hwnas.measurement.measurement`."""
    ci95_ms: tuple[float, float] | None = None
    p90_ms: float | None = None
    p99_ms: float | None = None
    min_ms: float | None = None
    cv: float | None = None
    """Standard deviation over mean of the rounds: a share, not percent."""
    samples: int = 0
    rounds: int = 0
    raw_median_ms: float | None = None
    """Median by this run's clock, before calibration."""
    reference_drift: float | None = None
    """Relative change of the reference model's speed since its calibration."""
    predicted_ms: float | None = None
    """Prediction of the latency model before this file was measured."""
    predicted_std_ms: float | None = None
    conditions: str = ""
    """One line: device, runtime and version, threads, core, governor, load, when."""
    source: str = ""
    """The measurement, table or model that the latency comes from."""
    judged: Literal["calibrated", "raw"] = "calibrated"

    @classmethod
    def from_measurement(
        cls,
        measurement: Measurement,
        *,
        predicted_ms: float | None = None,
        predicted_std_ms: float | None = None,
        raw: bool = False,
        source: str = "",
    ) -> Self:
        """Return the statistics of a measurement; ``raw``: in milliseconds of this run's clock.

        A raw latency keeps the relative interval, which comes from ratios to the reference.
        """
        scale = measurement.raw_median_ms / measurement.median_ms if raw else 1.0
        low_ms, high_ms = measurement.ci95_ms
        calibrated = measurement.calibrated_reference_ms is not None
        return cls(
            kind=measurement.kind,
            median_ms=measurement.median_ms * scale,
            ci95_ms=(low_ms * scale, high_ms * scale),
            p90_ms=measurement.p90_ms * scale,
            p99_ms=measurement.p99_ms * scale,
            min_ms=measurement.min_ms * scale,
            cv=measurement.cv,
            samples=len(measurement.samples_ms),
            rounds=len(measurement.rounds),
            raw_median_ms=measurement.raw_median_ms,
            reference_drift=measurement.drift if calibrated else None,
            predicted_ms=predicted_ms,
            predicted_std_ms=predicted_std_ms,
            conditions=conditions(measurement.environment),
            source=source,
            judged="raw" if raw or not calibrated else "calibrated",
        )


class OtherRuntime(msgspec.Struct, frozen=True, kw_only=True):
    """The same network in another format or runtime on the same device; not judged."""

    runtime: str
    format: str
    precision: str
    kind: Kind
    median_ms: float | None = None
    ci95_ms: tuple[float, float] | None = None
    accuracy: float | None = None
    agreement: float | None = None
    """Share of images with the original network's class, instead of the accuracy, for images
    without labels."""

    @property
    def score(self) -> float | None:
        """Accuracy or agreement."""
        return self.accuracy if self.agreement is None else self.agreement


class LatencyModelSummary(msgspec.Struct, frozen=True, kw_only=True):
    """The latency model, and its error on networks that it was not fitted to."""

    kind: Kind | Literal["adapted"]
    """``table``: only adds up a published table; ``adapted``: from another device's model."""
    source: str
    made: str = ""
    """Time of the fit, ISO 8601."""
    blocks: int = 0
    """Number of blocks measured in isolation."""
    networks: int = 0
    """Number of whole networks measured."""
    held_out: int | None = None
    """Number of networks behind the errors below."""
    within_5: float | None = None
    """Share of held-out networks predicted within 5 %."""
    within_10: float | None = None
    rmspe: float | None = None
    """Root mean square of the relative error: a share."""
    spearman: float | None = None
    covered_90: float | None = None
    """Share of held-out networks inside the 90 % interval of their prediction."""
    reference_ms: float | None = None
    """Calibrated latency of the reference model."""


def conditions(environment: Environment) -> str:
    """Return device and conditions of a measurement in one line; unknown ones are left out."""
    cores = ", ".join(map(str, environment.affinity))
    parts = [
        environment.hardware or environment.device,
        f"{environment.runtime} {environment.runtime_version}",
        f"{environment.threads} thread{'' if environment.threads == 1 else 's'}",
        f"pinned to core {cores}" if cores else "not pinned",
        environment.system,
        f"governor {environment.governor}" if environment.governor else "",
        _value(environment.frequency_mhz, "MHz"),
        _value(environment.temperature_c, "°C"),
        _load(environment),
        f"{environment.steal_s:.1f} s stolen by the hypervisor" if environment.steal_s else "",
        environment.when,
    ]
    return " · ".join(part for part in parts if part)


def _value(number: float | None, unit: str) -> str:
    return "" if number is None else f"{number:.0f} {unit}"


def _load(environment: Environment) -> str:
    before, after = environment.load_before, environment.load_after
    if before is None:
        return ""
    return f"load {before:.1f}" + ("" if after is None else f" → {after:.1f}")
