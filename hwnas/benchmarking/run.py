"""Measuring model files on one device, interleaved, so that they can be compared."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import msgspec

from hwnas.architecture.runtimes import RUNTIMES, RuntimeName
from hwnas.benchmarking.gate import Gate, JoinedMeasurements
from hwnas.benchmarking.result import BenchmarkResult, OperatorTable, make_result
from hwnas.devices.idle import waiting
from hwnas.devices.limits import check_size
from hwnas.devices.op_profile.local import operator_times
from hwnas.devices.op_profile.remote import remote_operator_times
from hwnas.devices.profile import DeviceProfile, find_profile, with_benchmark_binary
from hwnas.devices.runner import (
    InputShape,
    Progress,
    Subject,
    check_file,
    open_runner,
    printable,
    reference_sha256,
)
from hwnas.devices.runners.memory import PeakMemory, peak_memory
from hwnas.devices.runners.remote import RemoteHost
from hwnas.errors import UsageError
from hwnas.files import write_json
from hwnas.latency_models.storage.store import calibration
from hwnas.measurement.disturbance import Disturbed, disturbed_line
from hwnas.measurement.measurement import Measurement
from hwnas.measurement.regression import make_baseline

BASELINE_BATCHES = 2
"""A baseline judges many later runs, so it is measured at least this often."""


class BenchmarkRequest(msgspec.Struct, frozen=True, kw_only=True):
    """The files to measure, the device, and the settings."""

    files: tuple[str, ...]
    target: str | DeviceProfile = "host-cpu"
    """A device profile, its name or its path."""
    batches: tuple[int, ...] | None = None
    """Batch sizes; every file is measured with each of them. None: each file's own batch, or 1 if
    it takes any."""
    input_shapes: tuple[InputShape, ...] = ()
    """Shapes of the inputs that take any size."""
    raw: bool = False
    """Milliseconds of this run's clock, not scaled by the reference model."""
    per_op: bool = False
    """Also profile the time of each operator."""
    benchmark_binary: str | None = None
    """TFLite's ``benchmark_model`` for the device, which then measures there."""
    baseline: str | None = None
    """A file that `Benchmark.save_baseline` wrote; the files are judged against it."""
    max_regress: float = 0.05
    """Relative slowdown against its baseline that a file may have, e.g. 0.05."""
    wait_idle_s: float = 0.0
    """Longest wait for quiet cores of this machine before it measures; then `TooNoisy`."""
    seed: int = 0
    """Seed of inputs and order."""


class Benchmark:
    """Files on a device, checked before anything is measured.

    Raises `HwnasError` for an unknown device, a file that the device does not run, or a baseline
    that lacks one of the files.
    """

    def __init__(self, request: BenchmarkRequest, progress: Progress | None = None) -> None:
        profile = waiting(find_profile(request.target), request.wait_idle_s)
        if request.benchmark_binary is not None:
            profile = with_benchmark_binary(profile, request.benchmark_binary)
        self.request, self.profile, self.progress = request, profile, progress
        self.subjects = find_subjects(request.files, request.batches, profile, request.input_shapes)
        if request.per_op:
            check_per_op(self.subjects, profile)
        self.reference_sha256 = reference_sha256(profile.runtime)
        names = [subject.name for subject in self.subjects]
        self.gate = (
            Gate(request.baseline, request.max_regress, request.raw, self.reference_sha256, names)
            if request.baseline
            else None
        )
        self.measured = JoinedMeasurements(self._measure)

    def run(self) -> BenchmarkResult:
        """Measure all files; with a baseline measure again while the noise leaves a verdict
        open."""
        self.measured.measure()
        gate = self.gate.decide(self.measured) if self.gate else None
        result = make_result(
            self.measured.measurements,
            self.profile,
            raw=self.request.raw,
            files=[subject.path for subject in self.subjects],
            memory=_peak_memory(self.subjects, self.profile),
        )
        operators = _operators(self.subjects, self.profile) if self.request.per_op else ()
        return msgspec.structs.replace(result, gate=gate, operators=operators)

    def check(self, result: BenchmarkResult) -> None:
        """Raise `Regression` or `TooNoisy` unless all files passed."""
        if self.gate:
            self.gate.check()
        else:
            result.check_noise()

    def save_baseline(self, path: Path) -> None:
        """Write the measurements as a baseline, measuring until there are enough of them.

        Raises `Disturbed` for CPU times, since later runs are judged by it.
        """
        for batch in range(1, BASELINE_BATCHES):
            self.measured.measure(100 + batch)
        if by_cpu := [each for each in self.measured.measurements if each.clock == "cpu"]:
            raise Disturbed(f"--save-baseline: {disturbed_line(by_cpu[0], len(by_cpu) - 1)}")
        write_json(path, make_baseline(self.measured.measurements, self.reference_sha256))

    def _measure(self, batch: int) -> list[Measurement]:
        seed = self.request.seed + 1000 * batch
        measurements = measure_subjects(self.subjects, self.profile, seed, self.progress)
        return calibrated(measurements, self.profile, self.reference_sha256)


def run_benchmark(request: BenchmarkRequest, progress: Progress | None = None) -> BenchmarkResult:
    """Measure files on a device and return their latencies and how they compare.

    ``progress`` is called with visits done and planned. A regression does not raise here; see
    `Benchmark.check`.
    """
    return Benchmark(request, progress).run()


def find_subjects(
    files: Sequence[str],
    batches: Sequence[int] | None,
    profile: DeviceProfile,
    shapes: Sequence[InputShape] = (),
) -> list[Subject]:
    """Return the files to measure, each with its own runtime where the device has several."""
    runtimes: dict[str, RuntimeName] = {
        runtime.suffix: runtime.name for runtime in RUNTIMES.values()
    }
    several = profile.transport in ("local", "simulated") and profile.gpu is None
    subjects = [
        Subject(
            printable(file) if batch in (None, 1) else f"{printable(file)} x{batch}",
            Path(file),
            runtimes.get(Path(file).suffix) if several else None,
            batch,
            tuple(shapes),
        )
        for file in files
        for batch in batches or (None,)
    ]
    for subject in subjects:
        check_file(subject, profile)
        check_size(str(subject.path), subject.path.stat().st_size, profile)
    return subjects


def check_per_op(subjects: Sequence[Subject], profile: DeviceProfile) -> None:
    """Raise `UsageError` where the time of operators cannot be profiled."""
    if profile.gpu is not None:
        raise UsageError(
            f"--per-op: on {profile.name} a profile shows when kernels are launched, not how long "
            "they take"
        )
    if profile.transport == "simulated" or profile.runner:
        raise UsageError(f"--per-op: {profile.name} has no profiler")
    for subject in subjects:
        if subject.path.suffix == ".pt2":
            raise UsageError(f"--per-op: {subject.path}: expected an .onnx or .tflite file")
        if subject.batch not in (None, 1):
            raise UsageError(f"--per-op: expected batch size 1, got {subject.batch}")


def measure_subjects(
    subjects: Sequence[Subject], profile: DeviceProfile, seed: int, progress: Progress | None
) -> list[Measurement]:
    with open_runner(profile) as runner:
        return runner.measure(subjects, seed=seed, progress=progress)


def calibrated(
    measurements: Sequence[Measurement], profile: DeviceProfile, reference_sha256: str
) -> list[Measurement]:
    """Express latencies in the milliseconds of the device's calibration, if there is one.

    Files of both formats were measured beside the reference model of the device's own runtime.
    """
    own = next((m for m in measurements if m.environment.runtime == profile.runtime), None)
    reference_ms = calibration(own.environment, reference_sha256) if own else None
    return [
        msgspec.structs.replace(measurement, calibrated_reference_ms=reference_ms)
        for measurement in measurements
    ]


def _peak_memory(subjects: Sequence[Subject], profile: DeviceProfile) -> list[PeakMemory]:
    """Return the peak memory of the files; empty on other machines and GPUs, where none is read."""
    if profile.transport != "local" or profile.gpu is not None:
        return []
    files: list[tuple[Path, RuntimeName]] = [
        (subject.path, subject.runtime or profile.runtime) for subject in subjects
    ]
    batches = [subject.batch for subject in subjects]
    shapes = subjects[0].shapes if subjects else ()
    return peak_memory(files, profile.measure.threads, batches, shapes)


def _operators(subjects: Sequence[Subject], profile: DeviceProfile) -> tuple[OperatorTable, ...]:
    if profile.transport == "local":
        threads = profile.measure.threads
        return tuple(
            OperatorTable(
                subject.name,
                tuple(
                    operator_times(
                        subject.path,
                        subject.runtime or profile.runtime,
                        threads,
                        subject.shapes,
                    )
                ),
            )
            for subject in subjects
        )
    with RemoteHost(profile) as host:
        return tuple(
            OperatorTable(subject.name, tuple(remote_operator_times(host, subject)))
            for subject in subjects
        )
