"""A regression gate for CI: is a file slower than its baseline, beyond the noise?"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

from hwnas.benchmarking.result import GateResult
from hwnas.errors import Regression, TooNoisy
from hwnas.measurement.measurement import Measurement
from hwnas.measurement.regression import (
    Judgement,
    check_comparable,
    judge,
    merge_measurements,
    read_baseline,
)

MAX_BATCHES = 3
"""Most batches of measurements; each verdict is based on all samples so far."""


class JoinedMeasurements:
    """Measurements of the same files over several batches.

    ``measure_batch(n)`` measures all files once more, with seeds of the n-th batch.
    """

    def __init__(self, measure_batch: Callable[[int], list[Measurement]]) -> None:
        self.measure_batch = measure_batch
        self.measurements: list[Measurement] = []

    def measure(self, batch: int = 0) -> None:
        """Measure one more batch and join it to those before."""
        more = self.measure_batch(batch)
        if self.measurements:
            more = [merge_measurements(*pair) for pair in zip(self.measurements, more, strict=True)]
        self.measurements = more


class Gate:
    """Judges files against a baseline, which must know each of them by name."""

    def __init__(
        self, path: str, max_regress: float, raw: bool, reference_sha256: str, files: Sequence[str]
    ) -> None:
        self.path, self.max_regress, self.raw = path, max_regress, raw
        self.reference_sha256 = reference_sha256
        self.baseline = read_baseline(Path(path))
        self.judgements: tuple[Judgement, ...] = ()
        for file in files:
            self.baseline.model(Path(file).name)

    def decide(self, measured: JoinedMeasurements) -> GateResult:
        """Judge the files, and measure again while the limit lies inside an interval.

        The 5 % error rate is divided by `MAX_BATCHES`, as there may be so many interim verdicts.
        """
        environment = measured.measurements[0].environment
        check_comparable(self.baseline, environment, self.reference_sha256)
        batch = 1
        self.judgements = self._judge(measured.measurements)
        while batch < MAX_BATCHES and any(j.verdict == "undecided" for j in self.judgements):
            measured.measure(batch)
            self.judgements = self._judge(measured.measurements)
            batch += 1
        return GateResult(
            baseline=self.path,
            baseline_when=self.baseline.when,
            baseline_runtime_versions=self.baseline.runtime_versions,
            max_regress=self.max_regress,
            batches=batch,
            judgements=self.judgements,
        )

    def check(self) -> None:
        """Raise `Regression` or `TooNoisy` for the worst verdict, unless all files passed."""
        for verdict, error in (("regressed", Regression), ("undecided", TooNoisy)):
            failures = [item for item in self.judgements if item.verdict == verdict]
            if failures:
                worst = max(failures, key=lambda item: item.ratio)
                more = f"; and {len(failures) - 1} more" if len(failures) > 1 else ""
                raise error(f"{verdict_line(worst)}{more}")

    def _judge(self, measurements: Sequence[Measurement]) -> tuple[Judgement, ...]:
        return tuple(
            judge(
                self.baseline.model(Path(measurement.name).name),
                measurement,
                self.max_regress,
                raw=self.raw,
                confidence=1 - 0.05 / MAX_BATCHES,
            )
            for measurement in measurements
        )


def verdict_line(judgement: Judgement) -> str:
    """Return a verdict with its numbers, e.g. for an error message."""
    change = f"{change_text(judgement)} against its baseline"
    limit = f"{judgement.limit - 1:+.1%} allowed"
    if judgement.verdict == "regressed":
        same = "; the file is the same, so runtime or machine changed"
        return f"{judgement.name}: slower, {change}, {limit}{same if judgement.same_file else ''}"
    if judgement.verdict == "undecided":
        advice = "close other programs and measure again"
        return f"{judgement.name}: too noisy for a verdict, {change}, {limit}; {advice}"
    return f"{judgement.name}: {judgement.verdict}, {change}, {limit}"


def change_text(judgement: Judgement) -> str:
    """Return e.g. ``+10.0% (+8.0% to +12.0%)``."""
    return f"{judgement.ratio - 1:+.1%} ({judgement.low - 1:+.1%} to {judgement.high - 1:+.1%})"
