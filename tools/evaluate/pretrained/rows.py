"""Results of the runs as rows, one for each network that can be compared at a budget."""

from __future__ import annotations

from collections.abc import Container, Iterable
from pathlib import Path
from typing import TypeVar

import msgspec

from hwnas.files import read_json
from hwnas.report.candidate_rows import CandidateRow
from hwnas.report.report import Report
from hwnas.report.schema import Result
from hwnas.specialize.steps.screening import ScreeningResult
from tools.evaluate.pretrained.runs import Settings, cut_run, random_run, scratch_run

DELIVERED, MEMBER, WHOLE = "delivered", "cut member", "lower resolution"
SIBLING, SCRATCH, RANDOM = "sibling", "from scratch", "random member"
KINDS = (DELIVERED, MEMBER, WHOLE, SIBLING, SCRATCH, RANDOM)
BASELINES = (WHOLE, SIBLING, SCRATCH)
"""Networks that a user could take without a search."""
TUNING = "tune"
"""The stage of a run in which the whole network is tuned."""


class Row(msgspec.Struct, frozen=True, kw_only=True):
    """A trained network whose file was measured on the target of a budget."""

    data: str
    seed: int
    target: str
    percent: int
    """Budget, in percent of the whole network's latency."""
    budget_ms: float
    kind: str
    """Kind of the network, one of `KINDS`."""
    name: str
    median_ms: float
    validation: float
    """Accuracy on the validation images, which choose; a share of 1."""
    label_probability: float | None = None
    """Mean probability of the label of a validation image, at the best temperature."""
    test: float | None = None
    """Accuracy of the file on the test images."""
    before: float | None = None
    """Accuracy on the validation images before the final training."""

    @property
    def use(self) -> float:
        return self.median_ms / self.budget_ms

    @property
    def keeps_budget(self) -> bool:
        return self.use <= 1


class Times(msgspec.Struct, frozen=True, kw_only=True):
    """Time of a run for one target and budget, on the wall and of the processors."""

    data: str
    seed: int
    target: str
    percent: int
    seconds: dict[str, float]
    cpu_s: dict[str, float]


class Provenance(msgspec.Struct, frozen=True, kw_only=True):
    """When and where the runs of a seed were made."""

    data: str
    seed: int
    date: str
    machine: str


Part = TypeVar("Part", Row, Times, Provenance)


class Figures(msgspec.Struct, frozen=True):
    """The data of all tables: ``results/accuracy.json``."""

    rows: tuple[Row, ...] = ()
    times: tuple[Times, ...] = ()
    runs: tuple[Provenance, ...] = ()

    def with_seed(
        self, rows: Iterable[Row], times: Iterable[Times], provenance: Provenance
    ) -> Figures:
        """Return these figures and those of a seed."""
        return Figures((*self.rows, *rows), (*self.times, *times), (*self.runs, provenance))

    def beside(self, stored: Figures) -> Figures:
        """Return these figures with those of other sets and seeds from ``stored``."""
        mine = {(run.data, run.seed) for run in self.runs}
        return Figures(
            _merged(stored.rows, self.rows, mine),
            _merged(stored.times, self.times, mine),
            _merged(stored.runs, self.runs, mine),
        )


def _merged(
    stored: Iterable[Part], new: Iterable[Part], replaced: Container[tuple[str, int]]
) -> tuple[Part, ...]:
    others = (each for each in stored if (each.data, each.seed) not in replaced)
    return tuple(sorted([*others, *new], key=lambda each: (each.data, each.seed)))


def rows_of_seed(
    settings: Settings, data: str, seed: int, random_percents: Iterable[int], scratch: Iterable[int]
) -> tuple[list[Row], list[Times]]:
    """Return the rows of all runs of a seed, which are made where they are missing.

    Random members and searches from scratch are made for the first target only, for the budgets of
    these percents.
    """
    cut_run(settings, seed)
    rows: list[Row] = []
    times: list[Times] = []
    for target in settings.targets:
        for percent in settings.percents:
            folder = settings.scenario("cut", seed, target, percent)
            report = Report.read(folder / "report.json")
            place = {"data": data, "seed": seed, "target": target, "percent": percent}
            before = _before(folder)
            rows += _cut_rows(place, report.results[0], before)
            times.append(Times(**place, seconds=report.stages_s, cpu_s=report.stages_cpu_s))  # type: ignore[arg-type]
    tuning_s = max(each.seconds.get(TUNING, 0.0) for each in times)
    target = settings.targets[0]
    for percent in random_percents:
        place = {"data": data, "seed": seed, "target": target, "percent": percent}
        kind = f"random-{target}-{percent}"
        result = random_run(settings, seed, target, percent).results[0]
        before = _before(settings.folder(kind, seed))
        members = [row for row in _cut_rows(place, result, before) if row.kind == MEMBER]
        rows += [msgspec.structs.replace(row, kind=RANDOM) for row in members]
    for percent in scratch:
        place = {"data": data, "seed": seed, "target": target, "percent": percent}
        own = next(t for t in times if t.target == target and t.percent == percent)
        budget_ms = next(r.budget_ms for r in rows if (r.target, r.percent) == (target, percent))
        seconds = tuning_s + beside_tuning(own.seconds)
        report = scratch_run(settings, seed, target, percent, budget_ms, seconds / 60)
        rows.append(_delivered(place, report.results[0], SCRATCH))
    return rows, times


def beside_tuning(stages: dict[str, float]) -> float:
    """Return the time of a run without the tuning of the whole network, and without the
    measurements of the latency model, which serve all runs on the device."""
    return sum(time for stage, time in stages.items() if stage not in (TUNING, "profile"))


def _cut_rows(place: dict[str, object], result: Result, before: dict[str, float]) -> list[Row]:
    rows = [_delivered(place, result, DELIVERED)]
    for candidate in result.candidates:
        kind = {"search": MEMBER, "resolution": WHOLE, "sibling": SIBLING}.get(candidate.origin)
        if kind is not None and candidate.test_accuracy is not None:
            rows.append(_row(place, result, candidate, kind, before))
    return rows


def _row(
    place: dict[str, object],
    result: Result,
    candidate: CandidateRow,
    kind: str,
    before: dict[str, float],
) -> Row:
    assert candidate.latency_ms is not None and candidate.validation_accuracy is not None
    return Row(
        **place,  # type: ignore[arg-type]
        budget_ms=result.budget_ms or 0.0,
        kind=kind,
        name=candidate.name,
        median_ms=candidate.latency_ms,
        validation=candidate.validation_accuracy,
        label_probability=candidate.label_probability,
        test=candidate.test_accuracy,
        before=before.get(candidate.digest),
    )


def _delivered(place: dict[str, object], result: Result, kind: str) -> Row:
    chosen = next(candidate for candidate in result.candidates if candidate.chosen)
    row = _row(place, result, chosen, kind, {})
    assert result.accuracy is not None
    return msgspec.structs.replace(row, test=result.accuracy.shown)


def _before(folder: Path) -> dict[str, float]:
    """Return the validation accuracies of members before their final training, by digest."""
    values: dict[str, float] = {}
    for path in sorted((folder / "search").glob("round-*.json")):
        for candidate in read_json(path, ScreeningResult).candidates:
            if candidate.supernet_accuracy is not None:
                values[candidate.architecture.digest] = candidate.supernet_accuracy
    return values


def best(rows: Iterable[Row]) -> Row | None:
    """Return the network of the highest validation accuracy among those that keep the budget."""
    return max((row for row in rows if row.keeps_budget), key=lambda r: r.validation, default=None)
