"""Compares the delivered networks of runs, as far as they are comparable."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import combinations
from pathlib import Path

import msgspec

from hwnas.devices.profile import find_profile
from hwnas.errors import HwnasError
from hwnas.measurement.measurement import Kind
from hwnas.measurement.statistics import mcnemar, paired_difference
from hwnas.report.schema import Verdict
from hwnas.specialize.comparison.runs import Entry, read_entries
from hwnas.specialize.comparison.settings import differing_settings


class Row(msgspec.Struct, frozen=True, kw_only=True):
    """The delivered network of a run."""

    run: str
    target: str
    runtime: str
    precision: str
    hardware: str
    """Hardware of the machine of the run."""
    verdict: Verdict
    budget_ms: float | None
    median_ms: float | None
    ci95_ms: tuple[float, float] | None
    kind: Kind | None
    together_ms: float | None = None
    """Median of the files measured side by side, if they were."""
    together_kind: Kind | None = None
    score_name: str
    score: float | None
    """Accuracy or agreement on the test images, by the file if it was run."""
    score_ci95: tuple[float, float] | None
    test_images: int | None
    digest: str
    """Digest of the architecture."""
    params: int
    macs: int
    input_shape: tuple[int, int, int]
    size_bytes: dict[str, int]
    """Size of each file; the delivered one comes first."""
    seconds: float
    """Wall-clock time of the whole run."""
    data: str
    data_digest: str
    """Digest of images, labels and splits; empty if unknown."""


class LatencyRatio(msgspec.Struct, frozen=True, kw_only=True):
    """Latency of the second file over that of the first."""

    ratio: float
    ci95: tuple[float, float] | None = None
    """None for files that were measured in separate runs."""
    tie: bool | None = None
    """Whether it is undecided which of the two is faster; None without an interval."""


class ScoreDifference(msgspec.Struct, frozen=True, kw_only=True):
    """Accuracy of the second file less that of the first, on the same test images."""

    difference: float
    ci95: tuple[float, float]
    p_value: float
    """p-value of McNemar's exact test."""
    only_first: int
    """Images that only the first file classifies correctly."""
    only_second: int
    images: int

    @property
    def real(self) -> bool:
        """Whether the interval excludes equal accuracies."""
        return self.ci95[0] > 0 or self.ci95[1] < 0


class Pair(msgspec.Struct, frozen=True, kw_only=True):
    """Two results of the comparison."""

    first: str
    second: str
    latency: LatencyRatio | None = None
    score: ScoreDifference | None = None
    latency_note: str = ""
    """Reason why the latencies are not compared."""
    score_note: str = ""
    """Reason why the accuracies are not compared."""


class Comparison(msgspec.Struct, frozen=True, kw_only=True):
    """Results side by side."""

    rows: tuple[Row, ...]
    settings: dict[str, tuple[str, ...]]
    """Options and versions that differ between the results, with the value of each result."""
    pairs: tuple[Pair, ...]
    """Each pair of results."""


def compare_runs(runs: Sequence[Path]) -> Comparison:
    """Compare the results of runs, without measuring anything.

    Raises `UsageError` as `read_entries` does.
    """
    return compare_entries(read_entries(runs))


def compare_entries(entries: Sequence[Entry]) -> Comparison:
    return Comparison(
        rows=tuple(map(_row, entries)),
        settings=differing_settings(entries),
        pairs=tuple(_pair(first, second) for first, second in combinations(entries, 2)),
    )


def _row(entry: Entry) -> Row:
    report, result = entry.report, entry.result
    latency, score, network = result.latency, result.score, result.architecture
    return Row(
        run=entry.name,
        target=result.target,
        runtime=result.runtime,
        precision=result.precision,
        hardware=str(report.environment.get("hardware") or ""),
        verdict=result.verdict,
        budget_ms=result.budget_ms,
        median_ms=latency.median_ms if latency else None,
        ci95_ms=latency.ci95_ms if latency else None,
        kind=latency.kind if latency else None,
        score_name=result.score_name,
        score=score.shown if score else None,
        score_ci95=score.ci95 if score else None,
        test_images=score.test_images if score else None,
        digest=network.digest,
        params=network.params,
        macs=network.macs,
        input_shape=network.input_shape,
        size_bytes={Path(file.path).name: file.size_bytes for file in result.artifacts},
        seconds=sum(report.stages_s.values()),
        data=report.dataset.name if report.dataset else "",
        data_digest=report.dataset.digest if report.dataset else "",
    )


def _pair(first: Entry, second: Entry) -> Pair:
    rows = _row(first), _row(second)
    latency_note, score_note = _latency_note(*rows), _score_note(first, second)
    latency = None
    if not latency_note and rows[0].median_ms and rows[1].median_ms:
        latency = LatencyRatio(ratio=rows[1].median_ms / rows[0].median_ms)
    return Pair(
        first=first.name,
        second=second.name,
        latency=latency,
        score=None if score_note else _score_difference(first, second),
        latency_note=latency_note,
        score_note=score_note,
    )


def _latency_note(first: Row, second: Row) -> str:
    """Return why two latencies are not comparable; empty if they are."""
    if first.target != second.target:
        return f"latencies of different devices ({first.target}, {second.target}) are not compared"
    if first.median_ms is None or second.median_ms is None:
        return "latencies are not compared, as there are not two"
    if first.kind != second.kind:
        return f"a {first.kind} and a {second.kind} latency are not compared"
    if first.hardware != second.hardware and _is_local(first.target):
        machines = f"{first.hardware or 'unknown'}; {second.hardware or 'unknown'}"
        return f"latencies of different machines ({machines}) are not compared"
    return ""


def _is_local(target: str) -> bool:
    """Return whether a target is the machine of the run itself."""
    try:
        return find_profile(target).transport == "local"
    except HwnasError:
        return False  # the file of its profile is elsewhere


def _score_note(first: Entry, second: Entry) -> str:
    """Return why two accuracies are not comparable; empty if they are."""
    scores, name = (first.result.score, second.result.score), first.result.score_name
    data = first.report.dataset, second.report.dataset
    if scores[0] is None or scores[1] is None or data[0] is None or data[1] is None:
        return "accuracies are not compared, as there are not two"
    if name != second.result.score_name:
        return "an accuracy and an agreement are not compared"
    plural = "accuracies" if name == "accuracy" else "agreements"
    if data[0].name != data[1].name:
        return f"{plural} on different data ({data[0].name}, {data[1].name}) are not compared"
    if data[0].digest != data[1].digest:
        return f"{plural} are not compared, as {data[0].name} had other images, sizes or splits"
    if not (scores[0].hits and scores[1].hits and scores[0].test_images == scores[1].test_images):
        return (
            f"{plural} are not compared image by image, as a report of an older version lacks what "
            "that needs; their intervals are in the table"
        )
    return ""


def _score_difference(first: Entry, second: Entry) -> ScoreDifference:
    assert first.result.score is not None and second.result.score is not None
    images = first.result.score.test_images
    bits = [int(each.result.score.hits, 16) for each in (first, second) if each.result.score]
    only_first, only_second = (bits[0] & ~bits[1]).bit_count(), (bits[1] & ~bits[0]).bit_count()
    difference, low, high = paired_difference(only_first, only_second, images)
    return ScoreDifference(
        difference=difference,
        ci95=(low, high),
        p_value=mcnemar(only_first, only_second),
        only_first=only_first,
        only_second=only_second,
        images=images,
    )
