"""Whether a model file has become slower than it was: baselines, and the verdict on one.

Both times are ratios to the reference model, so a machine that is slower today accuses nobody. The
independent values are the medians of the worker processes; the verdict is by the interval of
Welch's test over their logarithms, since the spread between processes (one to three percent) is
what rounds inside a process don't show.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from statistics import median
from typing import Literal

import msgspec

from hwnas.errors import InvalidFile, UnknownName, UsageError
from hwnas.measurement.measurement import PROCESSES_NEEDED, Environment, Measurement
from hwnas.measurement.statistics import change_interval

Verdict = Literal["passed", "regressed", "undecided"]
SCHEMA = 1


class BaselineModel(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What one file took."""

    name: str
    """Of the file, without folders."""
    sha256: str
    median_ms: float
    ratios: tuple[float, ...]
    """Independent values of the ratio to the reference, at least two."""
    raw_ms: tuple[float, ...]
    """The same by the clock."""


class Baseline(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What files took on one device; valid for its hardware, threads and reference only."""

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
        for one in self.models:
            if one.name == name:
                return one
        raise UnknownName("file of the baseline", name, (one.name for one in self.models))


class Judgement(msgspec.Struct, frozen=True):
    """What is said of one file against its baseline."""

    name: str
    verdict: Verdict
    ratio: float
    """Of now to then."""
    low: float
    high: float
    limit: float
    """The ratio that is still allowed, e.g. 1.05."""
    same_file: bool
    """Whether the bytes are those of the baseline, so that a change can't be the model's."""


def make_baseline(measurements: Sequence[Measurement], reference_sha256: str) -> Baseline:
    """Return what is kept of measurements of one device."""
    first = measurements[0].environment
    models = tuple(
        BaselineModel(
            name=_file_name(one),
            sha256=one.sha256,
            median_ms=one.median_ms,
            ratios=independent(one),
            raw_ms=independent(one.raw()),
        )
        for one in measurements
    )
    if len({model.name for model in models}) < len(models):
        raise UsageError("a baseline names files without their folders; two have the same name")
    return Baseline(
        schema=SCHEMA,
        target=first.device,
        fingerprint=first.fingerprint,
        hardware=first.hardware,
        runtime_versions={
            one.environment.runtime: one.environment.runtime_version for one in measurements
        },
        threads=first.threads,
        reference_sha256=reference_sha256,
        when=first.when,
        models=models,
    )


def read_baseline(path: Path) -> Baseline:
    try:
        baseline = msgspec.json.decode(path.read_bytes(), type=Baseline)
    except OSError as error:
        raise InvalidFile(str(path), error.strerror or str(error)) from None
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise InvalidFile(str(path), f"no baseline of `hwnas benchmark` ({error})") from None
    if baseline.schema != SCHEMA:
        raise InvalidFile(str(path), f"schema {baseline.schema}, this version reads {SCHEMA}")
    for model in baseline.models:
        for values in (model.ratios, model.raw_ms):
            if len(values) < 2 or min(values) <= 0:
                why = f"{model.name}: expected at least two positive values, got {values}"
                raise InvalidFile(str(path), why)
    return baseline


def check_comparable(baseline: Baseline, now: Environment, reference_sha256: str) -> None:
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
                f"the baseline's {what} was {then}, here it is {here}: their latencies do not "
                "compare; make one here with --save-baseline FILE"
            )


def judge(
    baseline: BaselineModel,
    measured: Measurement,
    max_regress: float,
    *,
    raw: bool = False,
    confidence: float = 0.95,
) -> Judgement:
    """Say whether ``measured`` takes more than ``1 + max_regress`` times the baseline.

    ``regressed`` where the whole interval lies above the limit, ``passed`` where it lies below,
    ``undecided`` where the limit is inside.
    """
    then = baseline.raw_ms if raw else baseline.ratios
    now = independent(measured.raw() if raw else measured)
    ratio, low, high = change_interval(then, now, confidence)
    limit = 1 + max_regress
    verdict: Verdict = "passed" if high <= limit else "regressed" if low > limit else "undecided"
    same = baseline.sha256 == measured.sha256
    return Judgement(baseline.name, verdict, ratio, low, high, limit, same)


def independent(measured: Measurement) -> tuple[float, ...]:
    """Return the medians of the worker processes; of a device without such, the rounds."""
    processes: dict[int, list[float]] = {}
    for round in measured.rounds:
        processes.setdefault(round.process, []).append(round.ratio)
    if len(processes) >= PROCESSES_NEEDED:
        return tuple(median(ratios) for ratios in processes.values())
    return tuple(round.ratio for round in measured.rounds)


def joined(first: Measurement, second: Measurement) -> Measurement:
    """Return two measurements of one file as one: all rounds, the second's processes after."""
    shift = 1 + max(round.process for round in first.rounds)
    later = tuple(
        msgspec.structs.replace(round, process=round.process + shift) for round in second.rounds
    )
    return msgspec.structs.replace(first, rounds=first.rounds + later)


def _file_name(measured: Measurement) -> str:
    return Path(measured.name).name
