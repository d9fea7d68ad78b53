"""Regression gate: compares the latency of model files with a baseline.

Both latencies are ratios to the reference model, so machine-wide slowdowns cancel out. The
independent values are the medians of the worker processes; the verdict is by the interval of
Welch's test on their logarithms, since rounds within one process do not show the spread between
processes (1 to 3 %).
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from statistics import median
from typing import Literal

import msgspec

from hwnas.errors import InvalidFile, UnknownName, UsageError
from hwnas.measurement.disturbance import joined
from hwnas.measurement.measurement import MIN_PROCESSES, Environment, Measurement
from hwnas.measurement.statistics import change_interval

Verdict = Literal["passed", "regressed", "undecided"]
SCHEMA = 1


class BaselineModel(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Latency of one model file in a baseline."""

    name: str
    """File name without folders."""
    sha256: str
    median_ms: float
    ratios: tuple[float, ...]
    """Independent values of the ratio to the reference model, at least two."""
    raw_ms: tuple[float, ...]
    """Independent values in milliseconds, without calibration."""


class LatencyBaseline(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Latencies of files on one device; valid for its hardware, threads and reference only."""

    schema: int
    target: str
    fingerprint: str
    hardware: str
    runtime_versions: dict[str, str]
    threads: int
    reference_sha256: str
    when: str
    models: tuple[BaselineModel, ...]

    def model(self, name: str) -> BaselineModel:
        """Return the entry for a file name. Raises `UnknownName`."""
        for model in self.models:
            if model.name == name:
                return model
        raise UnknownName("file in the baseline", name, (model.name for model in self.models))


class Judgement(msgspec.Struct, frozen=True):
    """The comparison of one file with its baseline."""

    name: str
    verdict: Verdict
    ratio: float
    """Latency now over that of the baseline."""
    low: float
    high: float
    limit: float
    """Largest ratio that is allowed, e.g. 1.05."""
    same_file: bool
    """Whether the file is unchanged, so that a regression is not due to the model."""


def make_baseline(measurements: Sequence[Measurement], reference_sha256: str) -> LatencyBaseline:
    """Return the baseline from measurements on one device. Raises `UsageError` for equal names."""
    first = measurements[0].environment
    models = tuple(
        BaselineModel(
            name=Path(measurement.name).name,
            sha256=measurement.sha256,
            median_ms=measurement.median_ms,
            ratios=independent_values(measurement),
            raw_ms=independent_values(measurement.raw()),
        )
        for measurement in measurements
    )
    if len({model.name for model in models}) < len(models):
        raise UsageError("a baseline names files without folders: two have the same name")
    return LatencyBaseline(
        schema=SCHEMA,
        target=first.device,
        fingerprint=first.fingerprint,
        hardware=first.hardware,
        runtime_versions={
            measurement.environment.runtime: measurement.environment.runtime_version
            for measurement in measurements
        },
        threads=first.threads,
        reference_sha256=reference_sha256,
        when=first.when,
        models=models,
    )


def read_baseline(path: Path) -> LatencyBaseline:
    """Read a baseline that `make_baseline` returned. Raises `InvalidFile`."""
    try:
        baseline = msgspec.json.decode(path.read_bytes(), type=LatencyBaseline)
    except OSError as error:
        raise InvalidFile(str(path), error.strerror or str(error)) from None
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise InvalidFile(str(path), f"not a baseline of `hwnas benchmark` ({error})") from None
    if baseline.schema != SCHEMA:
        raise InvalidFile(str(path), f"schema {baseline.schema}, expected {SCHEMA}")
    for model in baseline.models:
        for values in (model.ratios, model.raw_ms):
            if len(values) < 2 or min(values) <= 0:
                why = f"{model.name}: expected at least two positive values, got {values}"
                raise InvalidFile(str(path), why)
    return baseline


def check_comparable(baseline: LatencyBaseline, now: Environment, reference_sha256: str) -> None:
    """Raise `UsageError` for a baseline of another device, hardware or reference model."""
    then_now = {
        "target": (baseline.target, now.device),
        "hardware": (
            f"{baseline.hardware} ({baseline.fingerprint})",
            f"{now.hardware} ({now.fingerprint})",
        ),
        "number of threads": (baseline.threads, now.threads),
        "reference model": (baseline.reference_sha256[:12], reference_sha256[:12]),
    }
    for what, (then, here) in then_now.items():
        if then != here:
            raise UsageError(
                f"the {what} of the baseline is {then}, here it is {here}: their latencies are not "
                "comparable; make a baseline here with --save-baseline FILE"
            )


def judge(
    baseline: BaselineModel,
    measured: Measurement,
    max_regress: float,
    *,
    raw: bool = False,
    confidence: float = 0.95,
) -> Judgement:
    """Judge whether ``measured`` takes more than ``1 + max_regress`` times the baseline.

    The verdict is ``regressed`` if the whole interval is above the limit, ``passed`` if it is
    below, ``undecided`` if it includes the limit.
    """
    then = baseline.raw_ms if raw else baseline.ratios
    now = independent_values(measured.raw() if raw else measured)
    ratio, low, high = change_interval(then, now, confidence)
    limit = 1 + max_regress
    verdict: Verdict = "passed" if high <= limit else "regressed" if low > limit else "undecided"
    same = baseline.sha256 == measured.sha256
    return Judgement(baseline.name, verdict, ratio, low, high, limit, same)


def independent_values(measured: Measurement) -> tuple[float, ...]:
    """Return the median ratio of each worker process, or of each round with few processes."""
    processes: dict[int, list[float]] = {}
    for round in measured.rounds:
        processes.setdefault(round.process, []).append(round.ratio)
    if len(processes) >= MIN_PROCESSES:
        return tuple(median(ratios) for ratios in processes.values())
    return tuple(round.ratio for round in measured.rounds)


def merge_measurements(first: Measurement, second: Measurement) -> Measurement:
    """Return `joined` measurements with the processes renumbered."""
    shift = 1 + max(round.process for round in first.rounds)
    later = tuple(
        msgspec.structs.replace(round, process=round.process + shift) for round in second.rounds
    )
    return joined(first, msgspec.structs.replace(second, rounds=later))
