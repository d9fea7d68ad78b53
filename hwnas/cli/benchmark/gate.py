"""`hwnas benchmark --baseline`: the verdict for a CI, and its JUnit and Markdown files."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any
from xml.etree import ElementTree

from hwnas.cli.benchmark.table import digits, notes, ratio_text, size
from hwnas.errors import Regression, TooNoisy

if TYPE_CHECKING:
    from hwnas.measurement.measurement import Measurement
    from hwnas.measurement.regression import Judgement

ATTEMPTS = 3
"""Batches that are measured at most; each looks at all samples so far."""

BASELINE_BATCHES = 2
"""A baseline is kept for long and judges many runs, so it is measured twice."""

Measure = Callable[[int], "list[Measurement]"]


class Gate:
    """Judges files against the baseline that was kept of an earlier run."""

    def __init__(
        self, path: str, max_regress: float, raw: bool, reference_sha256: str, files: Sequence[str]
    ) -> None:
        from hwnas.measurement.regression import read_baseline

        self.path, self.max_regress, self.raw = path, max_regress, raw
        self.reference_sha256 = reference_sha256
        self.baseline = read_baseline(Path(path))
        self.judgements: list[Judgement] = []
        self.batches = 0
        for file in files:
            self.baseline.model(Path(file).name)

    def decide(self, measurements: list[Measurement], measure: Measure) -> list[Measurement]:
        """Judge, measuring again while the noise leaves the limit inside an interval.

        ``measure(n)`` takes the n-th batch of the same files. Returns the files' measurements of
        all batches. Each of `ATTEMPTS` looks takes its share of the 5 % of wrong verdicts.
        """
        from hwnas.measurement.regression import check_comparable, joined

        check_comparable(self.baseline, measurements[0].environment, self.reference_sha256)
        for attempt in range(1, ATTEMPTS + 1):
            self.judgements, self.batches = self._judge(measurements), attempt
            if attempt == ATTEMPTS or all(one.verdict != "undecided" for one in self.judgements):
                break
            more = measure(attempt)
            measurements = [joined(*pair) for pair in zip(measurements, more, strict=True)]
        return measurements

    def _judge(self, measurements: Sequence[Measurement]) -> list[Judgement]:
        from hwnas.measurement.regression import judge

        confidence = 1 - 0.05 / ATTEMPTS
        return [
            judge(
                self.baseline.model(Path(one.name).name),
                one,
                self.max_regress,
                raw=self.raw,
                confidence=confidence,
            )
            for one in measurements
        ]

    def said(self) -> dict[str, Any]:
        return {
            "baseline": self.path,
            "baseline_when": self.baseline.when,
            "baseline_runtime_versions": self.baseline.runtime_versions,
            "max_regress": self.max_regress,
            "batches": self.batches,
            "judgements": self.judgements,
        }

    def refuse(self) -> None:
        """Raise for the worst verdict, if it isn't ``kept``."""
        for verdict, error in (("regressed", Regression), ("undecided", TooNoisy)):
            found = [one for one in self.judgements if one.verdict == verdict]
            if found:
                worst = max(found, key=lambda one: one.ratio)
                more = f"; and {len(found) - 1} more" if len(found) > 1 else ""
                raise error(f"{said_of(worst)}{more}")


def said_of(one: Judgement) -> str:
    """Return one line on a verdict."""
    change = (
        f"{one.ratio - 1:+.1%} ({one.low - 1:+.1%} to {one.high - 1:+.1%}) against its baseline"
    )
    limit = f"{one.limit - 1:+.1%} allowed"
    same = "; the file is the same, so runtime or machine changed" if one.same_file else ""
    if one.verdict == "regressed":
        return f"{one.name}: slower, {change}, {limit}{same}"
    if one.verdict == "undecided":
        return f"{one.name}: too noisy for a verdict, {change}, {limit}; close other programs"
    return f"{one.name}: kept, {change}, {limit}"


def save(path: Path, measurements: list[Measurement], measure: Measure, reference: str) -> None:
    """Write a baseline, measured in `BASELINE_BATCHES` batches at least."""
    from hwnas.files import write_json
    from hwnas.measurement.regression import joined, make_baseline

    for batch in range(1, BASELINE_BATCHES):
        more = measure(100 + batch)
        measurements = [joined(*pair) for pair in zip(measurements, more, strict=True)]
    write_json(path, make_baseline(measurements, reference))


def write_junit(path: Path, document: dict[str, Any]) -> None:
    """Write one test case a file: failed where it regressed, an error where nothing is decided."""
    from hwnas.files import write_atomic

    judged = {one.name: one for one in document.get("gate", {}).get("judgements", ())}
    verdicts = [one.verdict for one in judged.values()]
    suite = ElementTree.Element(
        "testsuite",
        name=f"hwnas benchmark {document['target']}",
        tests=str(len(document["results"])),
        failures=str(verdicts.count("regressed")),
        errors=str(verdicts.count("undecided")),
    )
    for row in document["results"]:
        seconds = f"{row['median_ms'] / 1e3:.9f}"
        case = ElementTree.SubElement(
            suite, "testcase", classname=document["target"], name=row["file"], time=seconds
        )
        one = judged.get(Path(row["file"]).name)
        if one is not None and one.verdict != "kept":
            kind = "failure" if one.verdict == "regressed" else "error"
            ElementTree.SubElement(case, kind, message=said_of(one), type=one.verdict)
    write_atomic(path, ElementTree.tostring(suite, encoding="utf-8", xml_declaration=True) + b"\n")


def markdown_of(document: dict[str, Any]) -> str:
    """Return the table as it is put into a comment or a summary."""
    judged = {one.name: one for one in document.get("gate", {}).get("judgements", ())}
    titles = ["file", "median ms", "95 % CI", "p90", "p99", "CV", "size", "memory", "to the first"]
    if judged:
        titles.append("against the baseline")
    lines = [
        f"**{document['target']}**: {document['title']}",
        "",
        f"| {' | '.join(titles)} |",
        f"| --- |{' ---: |' * (len(titles) - 1)}",
    ]
    for place, row in enumerate(document["results"]):
        low, high = row["ci95_ms"]
        cells = [
            f"`{row['file'].replace('|', '/')}`",
            digits(row["median_ms"]),
            f"{digits(low)} to {digits(high)}",
            digits(row["p90_ms"]),
            digits(row["p99_ms"]),
            f"{row['cv']:.1%}",
            size(row["size_bytes"]),
            size(row["peak_memory_bytes"]),
            ratio_text(row) if place else "1",
        ]
        if judged:
            one = judged[Path(row["file"]).name]
            cells.append(
                f"{one.verdict}: {one.ratio - 1:+.1%} ({one.low - 1:+.1%} to {one.high - 1:+.1%})"
            )
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join([*lines, "", *notes(document), ""])
