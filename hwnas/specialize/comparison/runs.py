"""The runs that are compared, read from their folders."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import pairwise
from pathlib import Path
from typing import NamedTuple

from hwnas.errors import UsageError
from hwnas.files import printable
from hwnas.recovery import CONFIG, is_run, unfinished
from hwnas.report.report import Report
from hwnas.report.schema import Result
from hwnas.specialize.housekeeping.listing import REPORT
from hwnas.specialize.spec import RunSpec, read_spec


class Entry(NamedTuple):
    """A result of a run."""

    name: str
    """Name of the run as the user gave it, with target and budget if the run has several
    results."""
    folder: Path
    report: Report
    result: Result
    spec: RunSpec | None
    """None for a report without its folder."""

    @property
    def file(self) -> Path | None:
        """The delivered file."""
        files = self.result.artifacts
        return self.folder / files[0].path if files else None


def read_entries(runs: Sequence[Path]) -> list[Entry]:
    """Return the results of runs, given by their folders or their ``report.json``.

    Raises `UsageError` for a path that is no run, has no result or is named twice, and if there is
    nothing to compare.
    """
    places = sorted(run.resolve() for run in runs)
    for first, second in pairwise(places):
        if first == second:
            raise UsageError(f"--compare: {first} is named twice")
    entries = [entry for run in runs for entry in _entries(run)]
    if len(entries) < 2:
        given = f"{runs[0]} has one" if runs else "none is given"
        raise UsageError(f"--compare takes two results or more; {given}. Name further runs")
    return entries


def _entries(run: Path) -> Iterator[Entry]:
    folder = run.parent if run.is_file() else run
    path = run if run.is_file() else run / REPORT
    if not path.exists():
        raise _without_report(run)
    report = Report.read(path)
    if not report.results:
        raise UsageError(f"{run}: the run has no result")
    spec = read_spec(folder) if is_run(folder) else None
    for result in report.results:
        name = printable(str(run))
        if len(report.results) > 1:
            name += f" {result.target} {result.precision}"
            name += "" if result.budget_ms is None else f" {result.budget_ms:.4g}ms"
        yield Entry(name, folder, report, result, spec)


def _without_report(run: Path) -> UsageError:
    """Return why a path has no result to compare."""
    if not run.exists():
        return UsageError(f"{run}: no such folder; expected a run folder or its {REPORT}")
    if not is_run(run):
        return UsageError(f"{run}: not the folder of a run, it has neither {CONFIG} nor {REPORT}")
    return unfinished(run)
