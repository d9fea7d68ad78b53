"""The result of a benchmark as plain data: a row for each file, and how the files compare."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import combinations
from pathlib import Path
from typing import Any, Literal

import msgspec

from hwnas.devices.external_data import external_files
from hwnas.devices.op_profile.local import OperatorTime
from hwnas.devices.profile import DeviceProfile
from hwnas.devices.runners.memory import PeakMemory
from hwnas.errors import TooNoisy
from hwnas.export.metadata.precision import precision_of
from hwnas.measurement.gpu import GpuExecution
from hwnas.measurement.measurement import (
    TOO_NOISY_HALF_WIDTH,
    Environment,
    Kind,
    Measurement,
    compare,
)
from hwnas.measurement.regression import Judgement
from hwnas.measurement.round import Clock

STATING_PRECISION = (".onnx", ".tflite")
"""Suffixes of the files whose precision can be read."""

UNSTEADY_HALF_WIDTH = 0.05
"""Half-width of the 95 % interval over the median from which a latency is flagged."""


class FileResult(msgspec.Struct, frozen=True):
    """The latency of one file at one batch size."""

    file: str
    sha256: str
    runtime: str
    runtime_version: str
    batch: int
    """Inputs per call."""
    inputs_per_s: float
    on_gpu: GpuExecution | None
    median_ms: float
    ci95_ms: tuple[float, float]
    p90_ms: float
    p99_ms: float
    min_ms: float
    cv: float
    """Coefficient of variation of the rounds."""
    ratio: float
    """Latency over that of the first file."""
    ratio_ci95: tuple[float, float]
    tie: bool
    """Whether it is undecided which of the two is faster."""
    raw_median_ms: float
    first_run_ms: float | None
    load_ms: float | None
    rounds: int
    samples: int
    half_width: float
    """Half of the 95 % interval, over the median."""
    unsteady: bool
    clock: Clock = "wall"
    """Wall clock of undisturbed calls, or CPU time, as other programs disturbed them."""
    disturbed_rounds: int = 0
    """Rounds that are left out, as other programs disturbed all their calls."""
    size_bytes: int | None = None
    peak_memory_bytes: int | None = None
    """Peak of a fresh process, less that of one that only loads the runtime."""
    process_memory_bytes: int | None = None
    input_shapes: dict[str, tuple[int, ...]] = {}
    """Shape of each input, with the batch; empty if unknown."""
    precision: str = ""
    """Precision by `precision_of`, e.g. ``fp16``; empty for a format that it does not read."""


class Difference(msgspec.Struct, frozen=True):
    """How much slower one file is than another."""

    faster: str
    slower: str
    ratio: float
    ratio_ci95: tuple[float, float]
    real: bool
    """Whether the interval excludes a tie."""


class ReferenceResult(msgspec.Struct, frozen=True):
    """The reference model that the files were measured beside."""

    runtime: str
    median_ms: float
    calibrated_ms: float | None
    drift: float
    """Relative change of its speed since the calibration."""


class OperatorTable(msgspec.Struct, frozen=True):
    """Time of each operator of a file, profiled apart from the latency."""

    file: str
    rows: tuple[OperatorTime, ...]


class GateResult(msgspec.Struct, frozen=True):
    """Verdicts against a baseline."""

    baseline: str
    """Path of the baseline."""
    baseline_when: str
    baseline_runtime_versions: dict[str, str]
    max_regress: float
    batches: int
    """How often the files were measured to reach a verdict."""
    judgements: tuple[Judgement, ...]


class BenchmarkResult(msgspec.Struct, frozen=True):
    """Files measured beside each other on one device."""

    schema: int
    target: str
    title: str
    kind: Kind
    scale: Literal["raw", "calibrated"]
    """Milliseconds of this run's clock, or of the device's calibration."""
    environment: Environment
    reference: ReferenceResult
    results: tuple[FileResult, ...]
    differences: tuple[Difference, ...]
    """Each pair of files, in order of their speed."""
    operators: tuple[OperatorTable, ...] = ()
    gate: GateResult | None = None
    measurements: tuple[Measurement, ...] = ()
    """All samples."""

    def to_dict(self, samples: bool = False) -> dict[str, Any]:
        """Return the result as plain data; ``samples`` includes every measured call."""
        data: dict[str, Any] = msgspec.json.decode(msgspec.json.encode(self))
        if not samples:
            del data["measurements"]
        return data

    def judgement(self, row: FileResult) -> Judgement | None:
        """Return the verdict on a file, if it was judged."""
        judged = {item.name: item for item in self.gate.judgements} if self.gate else {}
        return judged.get(Path(row.file).name)

    def check_noise(self) -> None:
        """Raise `TooNoisy` for a latency whose interval is too wide for a verdict."""
        worst = max(self.results, key=lambda row: row.half_width)
        if worst.half_width > TOO_NOISY_HALF_WIDTH:
            raise TooNoisy(
                f"{worst.file}: the 95 % interval is ±{worst.half_width:.0%} of the median, more "
                f"than ±{TOO_NOISY_HALF_WIDTH:.0%}; close other programs and measure again"
            )


def make_result(
    measurements: Sequence[Measurement],
    profile: DeviceProfile,
    *,
    raw: bool = False,
    files: Sequence[Path] = (),
    memory: Sequence[PeakMemory] = (),
) -> BenchmarkResult:
    """Return the result of measurements that were taken together.

    ``files`` (for sizes and precisions) and ``memory`` are in the order of the measurements, or
    empty.
    """
    first = measurements[0]
    by_cpu = [item for item in measurements if item.clock == "cpu"]
    rows = [_file_result(item, first, raw) for item in measurements]
    for place, file in enumerate(files):
        rows[place] = msgspec.structs.replace(
            rows[place],
            size_bytes=sum(each.stat().st_size for each in (file, *external_files(file))),
            precision=precision_of(file) if file.suffix in STATING_PRECISION else "",
        )
    for place, peak in enumerate(memory):
        rows[place] = msgspec.structs.replace(
            rows[place],
            peak_memory_bytes=peak.model_bytes,
            process_memory_bytes=peak.total_bytes,
        )
    return BenchmarkResult(
        schema=1,
        target=profile.name,
        title=profile.title,
        kind=(by_cpu[0] if by_cpu else first).kind,
        scale="raw" if raw or not first.calibrated_reference_ms else "calibrated",
        environment=first.environment,
        reference=ReferenceResult(
            runtime=profile.runtime,
            median_ms=first.reference_ms,
            calibrated_ms=first.calibrated_reference_ms,
            drift=max((item.drift for item in measurements), key=abs),
        ),
        results=tuple(rows),
        differences=_differences(measurements),
        measurements=tuple(measurements),
    )


def _file_result(measurement: Measurement, first: Measurement, raw: bool) -> FileResult:
    scaled = measurement.raw() if raw else measurement
    low_ms, high_ms = scaled.ci95_ms
    half_width = (high_ms - low_ms) / 2 / scaled.median_ms
    to_first = compare(measurement, first)
    return FileResult(
        file=measurement.name,
        sha256=measurement.sha256,
        runtime=measurement.environment.runtime,
        runtime_version=measurement.environment.runtime_version,
        batch=measurement.batch,
        inputs_per_s=measurement.batch * 1e3 / scaled.median_ms,
        on_gpu=measurement.on_gpu,
        median_ms=scaled.median_ms,
        ci95_ms=(low_ms, high_ms),
        p90_ms=scaled.p90_ms,
        p99_ms=scaled.p99_ms,
        min_ms=scaled.min_ms,
        cv=scaled.cv,
        ratio=to_first.ratio,
        ratio_ci95=(to_first.low, to_first.high),
        tie=measurement is not first and to_first.tie,
        raw_median_ms=measurement.raw_median_ms,
        first_run_ms=measurement.first_run_ms,
        load_ms=measurement.load_ms,
        rounds=len(measurement.rounds),
        samples=len(measurement.samples_ms),
        half_width=half_width,
        unsteady=half_width > UNSTEADY_HALF_WIDTH,
        clock=measurement.clock,
        disturbed_rounds=measurement.disturbed_rounds,
        input_shapes=measurement.input_shapes,
    )


def _differences(measurements: Sequence[Measurement]) -> tuple[Difference, ...]:
    """Compare every two files, ordered by the slower of them."""
    ordered = sorted(measurements, key=lambda item: item.ratio)
    pairs = sorted(combinations(range(len(ordered)), 2), key=lambda pair: (pair[1], pair[0]))
    differences: list[Difference] = []
    for faster, slower in ((ordered[a], ordered[b]) for a, b in pairs):
        result = compare(slower, faster)
        interval = (result.low, result.high)
        differences.append(
            Difference(faster.name, slower.name, result.ratio, interval, not result.tie)
        )
    return tuple(differences)
