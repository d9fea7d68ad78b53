"""Several precisions, resolutions, widths: a search for each combination, the best file of all.

``--precision auto`` is ``fp32,int8``: int8 is not always faster, so both are searched and measured
at the same budget. Image size and width multiplier set the scale of a space, which its decisions
do not change (Lin et al., "MCUNet", NeurIPS 2020, arXiv:2007.10319, section 3.1). Each combination
has a supernet and a run folder of its own inside the run's. What is chosen is what a user would
choose with all files in hand: of those that keep the budget, the one that sees most validation
images right in its runtime.
"""

from __future__ import annotations

import shutil
from collections.abc import Callable
from itertools import product
from pathlib import Path
from typing import Any, NamedTuple

import msgspec

from hwnas.console import Console
from hwnas.errors import BudgetError, UsageError
from hwnas.export.verification.verify import file_outputs
from hwnas.files import write_json
from hwnas.report.report import Report
from hwnas.report.schema import Result
from hwnas.specialize.results.next_commands import next_commands
from hwnas.specialize.run_folder import Config, RunFolder, command_line
from hwnas.specialize.setup.auto_width import widened
from hwnas.specialize.setup.plan import PRECISIONS, load_images, plan
from hwnas.specialize.steps.quantize import as_taken

NARROWLY = 0.999
"""Where a pair's slowest network keeps the budget, it is searched for just below that one."""


class Outcome(msgspec.Struct, frozen=True):
    """What a pair came to: a line of ``pairs.json``."""

    precision: str
    resolution: str
    width_mult: str
    verdict: str
    median_ms: float | None = None
    validation_accuracy: float | None = None
    """Of the delivered file, in its runtime."""
    reason: str = ""

    @property
    def said(self) -> str:
        name = f"{self.precision}{' at ' + self.resolution + ' px' if self.resolution else ''}"
        name += f" x{self.width_mult}" if self.width_mult else ""
        if self.validation_accuracy is None:
            return f"{name}: {self.verdict}; {self.reason}"
        latency = "" if self.median_ms is None else f"{self.median_ms:.4g} ms, "
        return f"{name}: {self.verdict}, {latency}validation {self.validation_accuracy:.2%}"


class Pair(NamedTuple):
    config: Config
    folder: Path


def pairs_of(config: Config, folder: Path) -> list[Pair]:
    """Return the runs that ``config`` stands for; one, in ``folder`` itself, where it is plain."""
    asked = "fp32,int8" if config.precision == "auto" else config.precision
    precisions, resolutions = _listed(asked), _listed(config.resolution) or [""]
    widths = _listed(config.width_mult) or [""]
    for text in precisions:
        if text not in PRECISIONS:
            known = ", ".join(PRECISIONS)
            raise UsageError(f"--precision {config.precision!r}: this version compiles {known}")
    for text in filter(None, resolutions):
        if not text.isdecimal() or int(text) < 1:
            raise UsageError(f"--resolution {config.resolution!r}: expected pixels, like 24,28,32")
    for text in filter(None, widths):
        if not _positive(text):
            raise UsageError(f"--width-mult {config.width_mult!r}: expected numbers, like 0.75,1")
    found = [
        msgspec.structs.replace(
            config, precision=precision, resolution=resolution, width_mult=width_mult
        )
        for precision, resolution, width_mult in product(precisions, resolutions, widths)
    ]
    if len(found) == 1:
        return [Pair(found[0], folder)]
    names = [
        "-".join(
            filter(None, (one.precision, one.resolution, one.width_mult and f"x{one.width_mult}"))
        )
        for one in found
    ]
    return [Pair(one, folder / "pairs" / name) for one, name in zip(found, names, strict=True)]


def plan_all(config: Config, console: Console) -> dict[str, object]:
    """Return the plan of a run, with a result for each of its pairs."""
    plans = [plan(one.config, console) for one in pairs_of(widened(config, console), Path())]
    results = [result for one in plans for result in one["results"]]  # type: ignore[attr-defined]
    return {**plans[0], "results": results}


def specialize_pairs(
    config: Config,
    folder: Path,
    console: Console,
    resume: bool,
    one: Callable[[Config, Path, Console, bool], Report],
) -> Report:
    """Run every pair by ``one``, choose, and hand over the chosen pair's report and files.

    The budget of all is the one asked for, by the range of the first pair.
    """
    with RunFolder.open(folder, config, resume):
        return _run_pairs(config, folder, console, one)


def _run_pairs(
    config: Config,
    folder: Path,
    console: Console,
    one: Callable[[Config, Path, Console, bool], Report],
) -> Report:
    pairs = pairs_of(config, folder)
    budget_ms = _first(plan(pairs[0].config, console))["budget_ms"]
    outcomes: list[Outcome] = []
    reports: list[Report | None] = []
    for pair in pairs:
        console.say(f"{pair.folder.name}: searched at {budget_ms:.4g} ms")
        report = _report_of(pair, budget_ms, console, one)
        reports.append(report)
        outcomes.append(_outcome(pair, report, budget_ms))
        write_json(folder / "pairs.json", outcomes)
        console.say(outcomes[-1].said)
    best = choose(outcomes)
    report = reports[best]
    if report is None:
        raise BudgetError("; ".join(outcome.said for outcome in outcomes))
    shutil.copytree(pairs[best].folder / "export", folder / "export", dirs_exist_ok=True)
    kept = msgspec.structs.replace(report.results[0], budget_ms=budget_ms)
    notes = [f"Chosen of {len(pairs)} searches, by the files' own accuracy on validation images:"]
    return msgspec.structs.replace(
        report,
        command=command_line(config),
        results=(kept,),
        commands=next_commands(config, folder, [kept]),
        notes=(*notes, *(outcome.said for outcome in outcomes), *report.notes),
    )


def choose(outcomes: list[Outcome]) -> int:
    """Return the place of the best: kept first, then by accuracy; of the others the fastest."""

    def rank(place: int) -> tuple[bool, bool, float]:
        one = outcomes[place]
        accuracy = one.validation_accuracy
        kept = one.verdict != "missed"
        worth = accuracy if kept else -(one.median_ms or float("inf"))
        return accuracy is not None, kept, worth or 0.0

    return max(range(len(outcomes)), key=rank)


def _report_of(
    pair: Pair,
    budget_ms: float,
    console: Console,
    one: Callable[[Config, Path, Console, bool], Report],
) -> Report | None:
    """Return the pair's report, running what is not done; ``None``: no network is fast enough."""
    done = pair.folder / "report.json"
    if done.exists():
        return Report.read(done)
    open_budget = msgspec.structs.replace(pair.config, budget="")
    least_ms, _, most_ms = _first(plan(open_budget, console))["range_ms"]
    if least_ms > budget_ms:
        return None
    own_ms = min(budget_ms, NARROWLY * most_ms)
    config = msgspec.structs.replace(pair.config, budget=f"{own_ms:.6f}ms")
    return one(config, pair.folder, console, (pair.folder / "config.toml").exists())


def _outcome(pair: Pair, report: Report | None, budget_ms: float) -> Outcome:
    config = pair.config
    combined = config.precision, config.resolution, config.width_mult
    if report is None:
        reason = f"even the fastest network takes longer than {budget_ms:.4g} ms"
        return Outcome(*combined, "not searched", reason=reason)
    result: Result = report.results[0]
    file = result.artifacts[0]
    dataset = load_images(config)
    images = as_taken(dataset, dataset.valid.images, config.pixels)
    logits = file_outputs(pair.folder / file.path, file.format, images)  # type: ignore[arg-type]
    right = float((logits.argmax(axis=1) == dataset.valid.labels).mean())
    latency = None if result.latency is None else result.latency.median_ms
    return Outcome(*combined, result.verdict, latency, right)


def _first(document: dict[str, object]) -> dict[str, Any]:
    return document["results"][0]  # type: ignore[index]


def _positive(text: str) -> bool:
    try:
        return 0 < float(text) < float("inf")
    except ValueError:
        return False


def _listed(text: str) -> list[str]:
    return [part.strip() for part in text.split(",") if part.strip()]
