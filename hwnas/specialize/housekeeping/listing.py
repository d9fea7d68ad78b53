"""The runs below a folder, with their state and results."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path
from typing import Literal

import msgspec

from hwnas.errors import InvalidFile, UsageError
from hwnas.files import is_locked
from hwnas.recovery import CONFIG, MANIFEST, is_run
from hwnas.report.report import Report
from hwnas.report.schema import Result
from hwnas.specialize.run_folder import CLEANED
from hwnas.specialize.spec import RunSpec, has_whole_spec, read_spec
from hwnas.specialize.values import format_budget

REPORT = "report.json"
State = Literal["running", "finished", "cleaned", "interrupted", "unreadable"]


class RunRow(msgspec.Struct, frozen=True, kw_only=True):
    """A result of a run, or a run without a result so far."""

    run: str
    """Folder of the run."""
    state: State
    target: str = ""
    budget: str = ""
    """Budget as the user gave it; in ms for a result."""
    verdict: str | None = None
    """Verdict of a finished run: whether the budget is kept."""
    measured_ms: float | None = None
    kind: str | None = None
    """Kind of the latency: measured, simulated, …"""
    accuracy: float | None = None
    """Accuracy of the delivered file on the test images."""
    date: str = ""
    """Date of the last change, local time."""
    size_bytes: int = 0
    """Size of the run's folder."""


def list_runs(folder: Path) -> list[RunRow]:
    """Return the results of all runs in ``folder`` and below, by name.

    Raises `UsageError` if the folder does not exist. The parts of a run of several targets or
    variants are not listed separately.
    """
    if not folder.is_dir():
        raise UsageError(f"{folder}: no such folder")
    return [row for run in find_runs(folder) for row in _rows(run)]


def find_runs(folder: Path) -> Iterator[Path]:
    """Yield the folders of runs, without going into them."""
    if is_run(folder) and (has_whole_spec(folder) or (folder / MANIFEST).is_file()):
        yield folder
        return
    try:
        below = sorted(path for path in folder.iterdir() if path.is_dir() and not path.is_symlink())
    except OSError:
        return  # another user's
    for path in below:
        if not path.name.startswith("."):
            yield from find_runs(path)


def state_of(run: Path) -> State:
    """Return the state of a run."""
    if is_locked(run):
        return "running"
    if (run / CLEANED).exists():
        return "cleaned"
    return "finished" if (run / REPORT).exists() else "interrupted"


def size_bytes(folder: Path) -> int:
    return sum(path.lstat().st_size for path in folder.rglob("*") if path.is_file())


def _rows(run: Path) -> Iterator[RunRow]:
    common = RunRow(run=str(run), state=state_of(run), date=_date(run), size_bytes=size_bytes(run))
    try:
        spec = read_spec(run)
        results = Report.read(run / REPORT).results if (run / REPORT).exists() else ()
    except InvalidFile:
        yield msgspec.structs.replace(common, state="unreadable")
        return
    if not results:
        yield _with_goal(common, spec)
    for result in results:
        yield _with_result(common, result)


def _with_goal(row: RunRow, spec: RunSpec) -> RunRow:
    budget = ",".join(map(format_budget, spec.budgets)) or "default"
    return msgspec.structs.replace(row, target=",".join(spec.targets), budget=budget)


def _with_result(row: RunRow, result: Result) -> RunRow:
    latency = result.latency
    return msgspec.structs.replace(
        row,
        target=result.target,
        budget=f"{result.budget_ms:.4g}ms",
        verdict=result.verdict,
        measured_ms=None if latency is None else latency.median_ms,
        kind=None if latency is None else latency.kind,
        accuracy=None if result.accuracy is None else result.accuracy.shown,
    )


def _date(run: Path) -> str:
    """Return the date of the last work on a run; rendering its report again does not count."""
    files = [run / name for name in ("stages.jsonl", REPORT, CONFIG)]
    changed = [file.stat().st_mtime for file in files if file.exists()]
    return time.strftime("%Y-%m-%d %H:%M", time.localtime(changed[0])) if changed else ""
