"""Runs of several values: targets and budgets, precisions, resolutions and widths.

*Scenarios* are the combinations of targets and budgets. Each has a result of its own, and they
share one supernet, trained in the first: a search whose weights don't depend on latency
(`StrategyTraits.weights_ignore_costs`) is shared as a whole, any other after its warm-up, unless
the warm-up uses costs. Both are what the scenario would compute itself, so the results are those
of separate runs. Scenarios whose budgets decide the size of networks of cells share nothing.

*Variants* are the combinations of precisions, resolutions and width multipliers: int8 is not
always faster, and image size and width set the scale of a space, which its decisions don't change
(Lin et al., "MCUNet", NeurIPS 2020, arXiv:2007.10319, section 3.1). Each variant has a supernet of
its own. Of the files that keep the budget, the one with the highest validation accuracy in its
runtime is delivered.

Each run of a sweep has a folder inside the whole run's.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from itertools import product
from pathlib import Path
from typing import Any, NamedTuple, Protocol

import msgspec

from hwnas.console import Console
from hwnas.devices.profile import find_profile
from hwnas.errors import BudgetError
from hwnas.export.verification.metrics import accuracy
from hwnas.export.verification.run_model import file_outputs
from hwnas.files import write_atomic, write_json
from hwnas.networks.resolve import read_architecture
from hwnas.networks.verification_data import to_model_input
from hwnas.recovery import is_run
from hwnas.report.report import Report
from hwnas.report.schema import Result
from hwnas.search.log import read_log, write_log
from hwnas.search.plan import SearchFiles
from hwnas.search.registry import load_strategy
from hwnas.specialize.command_line import command_line
from hwnas.specialize.results.next_commands import next_commands
from hwnas.specialize.run_folder import SCENARIOS
from hwnas.specialize.setup.dry_run import plan_run
from hwnas.specialize.setup.resolve import Resources, resolve
from hwnas.specialize.setup.scale.cells import chooses_size
from hwnas.specialize.spec import Milliseconds, RunSpec
from hwnas.specialize.values import format_budget

MAX_SHARE_OF_LARGEST = 0.999
"""Largest budget of a variant, as a share of its largest network's latency: a budget that every
network keeps leaves nothing to search."""

NAMES: dict[str, Callable[[Any], str]] = {
    "targets": lambda target: Path(target).stem,
    "budgets": format_budget,
    "precisions": str,
    "resolutions": str,
    "width_mults": lambda width: f"x{width:g}",
}
"""How the values of a run appear in the name of its folder."""


class SweepRun(NamedTuple):
    """A run of one value in each field that is swept, and its folder."""

    spec: RunSpec
    folder: Path


class Execute(Protocol):
    """Execute a run, or resume it."""

    def __call__(self, run: SweepRun, *, resume: bool) -> Report: ...


class VariantResult(msgspec.Struct, frozen=True, kw_only=True):
    """The outcome of a variant: an entry of ``variants.json``."""

    precision: str
    resolution: int | None
    width_mult: float | None
    verdict: str
    median_ms: float | None = None
    validation_accuracy: float | None = None
    """Of the delivered file, in its runtime."""
    reason: str = ""

    @property
    def summary(self) -> str:
        name = self.precision
        name += f" at {self.resolution} px" if self.resolution else ""
        name += f" x{self.width_mult:g}" if self.width_mult else ""
        if self.validation_accuracy is None:
            return f"{name}: {self.verdict}; {self.reason}"
        latency = "" if self.median_ms is None else f"{self.median_ms:.4g} ms, "
        return f"{name}: {self.verdict}, {latency}validation {self.validation_accuracy:.2%}"


def scenarios(spec: RunSpec, folder: Path) -> list[SweepRun]:
    """Return a run for each target and budget; in ``folder`` itself if it is only one.

    Several share one space, so its width is the one given, or 1.
    """
    runs = _combinations(spec, folder, SCENARIOS, ("targets", "budgets"))
    if len(runs) == 1:
        return runs
    widths = spec.width_mults or (1.0,)
    return [
        run._replace(spec=msgspec.structs.replace(run.spec, width_mults=widths)) for run in runs
    ]


def variants(spec: RunSpec, folder: Path) -> list[SweepRun]:
    """Return a run for each precision, resolution and width; in ``folder`` itself if only one."""
    return _combinations(spec, folder, "variants", ("precisions", "resolutions", "width_mults"))


def _combinations(
    spec: RunSpec, folder: Path, group: str, fields: tuple[str, ...]
) -> list[SweepRun]:
    axes = [[(value,) for value in getattr(spec, field)] or [()] for field in fields]
    runs: list[SweepRun] = []
    for values in product(*axes):
        changes: dict[str, Any] = dict(zip(fields, values, strict=True))
        words = [NAMES[field](value[0]) for field, value in changes.items() if value]
        if spec.minutes is not None:
            changes["minutes"] = spec.minutes / math.prod(map(len, axes))
        runs.append(
            SweepRun(msgspec.structs.replace(spec, **changes), folder / group / "-".join(words))
        )
    return runs if len(runs) > 1 else [SweepRun(runs[0].spec, folder)]


def run_scenarios(
    runs: Sequence[SweepRun], spec: RunSpec, folder: Path, console: Console, execute: Execute
) -> Report:
    """Execute all scenarios and return one report with a result for each."""
    reports: list[Report] = []
    for run in runs:
        console.say(f"scenario {run.folder.name}")
        if not (run.folder / "report.json").exists() and run is not runs[0]:
            share_supernet(runs[0], run)
        reports.append(_report(run, execute))
    report = _merged(reports, runs)
    return msgspec.structs.replace(
        report,
        command=command_line(spec),
        commands=next_commands(spec, folder, report.results),
    )


def _report(run: SweepRun, execute: Execute) -> Report:
    """Return the report of a run, executing or resuming it if it has none."""
    if (run.folder / "report.json").exists():
        return Report.read(run.folder / "report.json")
    return execute(run, resume=is_run(run.folder))


def sharing(runs: Sequence[SweepRun]) -> int:
    """Return how many of the scenarios share what the first one has trained: all or none."""
    return len(runs) if all(may_share(runs[0], run) for run in runs) else 1


def may_share(source: SweepRun, run: SweepRun) -> bool:
    """Whether a run can begin with the supernet of ``source``, or its warm-up."""
    images = [find_profile(each.spec.target).default_input for each in (source, run)]
    has_variants = len(variants(run.spec, run.folder)) > 1
    uses_costs = load_strategy(run.spec.strategy).traits.warm_up_uses_costs
    same_networks = images[0] == images[1] and not chooses_size(run.spec)
    return same_networks and not has_variants and not uses_costs


def share_supernet(source: SweepRun, run: SweepRun) -> None:
    """Copy the supernet of ``source`` to a run that would compute the same and has none yet."""
    checkpoint = SearchFiles.of_run(run.folder).checkpoint
    if checkpoint.exists() or not may_share(source, run):
        return
    traits = load_strategy(run.spec.strategy).traits
    files = SearchFiles.of_run(source.folder)
    shared, lines = files.checkpoint, read_log(files.log)
    if not traits.weights_ignore_costs:
        shared = files.warm_up
        lines = [line for line in lines if line.phase == "warm-up"]
    if not shared.exists():
        return
    write_log(SearchFiles.of_run(run.folder).log, lines)
    if (plan := source.folder / "plan.json").exists():
        write_atomic(run.folder / "plan.json", plan.read_bytes())
    write_atomic(checkpoint, shared.read_bytes())


def _merged(reports: Sequence[Report], runs: Sequence[SweepRun]) -> Report:
    """Return one report with the results of all, with paths relative to the whole run's folder."""
    results: list[Result] = []
    points: list[Any] = []
    notes: list[str] = []
    for report, run in zip(reports, runs, strict=True):
        name = run.folder.name
        for result in report.results:
            artifacts = tuple(
                msgspec.structs.replace(row, path=f"{SCENARIOS}/{name}/{row.path}")
                for row in result.artifacts
            )
            results.append(msgspec.structs.replace(result, artifacts=artifacts))
            points += [
                msgspec.structs.replace(point, target=result.target, budget_ms=result.budget_ms)
                for point in report.search
            ]
        notes += [f"{name}: {note}" for note in report.notes]
    return msgspec.structs.replace(
        reports[0],
        results=tuple(results),
        search=tuple(points),
        stages_s=_summed([report.stages_s for report in reports]),
        stages_cpu_s=_summed([report.stages_cpu_s for report in reports]),
        notes=(f"{len(results)} targets and budgets; files are in {SCENARIOS}/.", *notes),
    )


def _summed(times: Sequence[dict[str, float]]) -> dict[str, float]:
    names = dict.fromkeys(name for each in times for name in each)
    return {name: sum(each.get(name, 0.0) for each in times) for name in names}


def run_variants(
    runs: Sequence[SweepRun], spec: RunSpec, folder: Path, resources: Resources, execute: Execute
) -> Report:
    """Execute all variants, and return the report of the best, whose files are copied to
    ``export/``.

    All have the budget of the first, in ms.
    """
    console = resources.console
    budget_ms = plan_run(resolve(runs[0].spec, resources), runs[0].folder).budget_ms
    results: list[VariantResult] = []
    reports: list[Report | None] = []
    for run in runs:
        console.say(f"variant {run.folder.name}: searched at {budget_ms:.4g} ms")
        reports.append(_variant_report(run, budget_ms, resources, execute))
        results.append(_variant_result(run, reports[-1], budget_ms, resources))
        write_json(folder / "variants.json", results)
        console.say(results[-1].summary)
    best = best_variant(results)
    report = reports[best]
    if report is None:
        raise BudgetError("; ".join(result.summary for result in results))
    for file in (runs[best].folder / "export").iterdir():
        write_atomic(folder / "export" / file.name, file.read_bytes())
    result = msgspec.structs.replace(report.results[0], budget_ms=budget_ms)
    title = f"The best of {len(runs)} searches, by the files' own accuracy on validation images:"
    return msgspec.structs.replace(
        report,
        command=command_line(spec),
        results=(result,),
        commands=next_commands(spec, folder, [result]),
        notes=(title, *(result.summary for result in results), *report.notes),
    )


def best_variant(results: Sequence[VariantResult]) -> int:
    """Return the index of the most accurate variant that keeps the budget, or else the fastest."""

    def rank(index: int) -> tuple[bool, bool, float]:
        result = results[index]
        accuracy, keeps_budget = result.validation_accuracy, result.verdict != "missed"
        score = accuracy if keeps_budget else -(result.median_ms or float("inf"))
        return accuracy is not None, keeps_budget, score or 0.0

    return max(range(len(results)), key=rank)


def _variant_report(
    run: SweepRun, budget_ms: float, resources: Resources, execute: Execute
) -> Report | None:
    """Return the report of a variant, ``None`` if it has no network that is fast enough."""
    if not (run.folder / "report.json").exists():
        default = msgspec.structs.replace(run.spec, budgets=())
        least_ms, _, largest_ms = plan_run(resolve(default, resources), run.folder).range_ms
        if least_ms > budget_ms:
            return None
        budget = Milliseconds(min(budget_ms, MAX_SHARE_OF_LARGEST * largest_ms))
        run = run._replace(spec=msgspec.structs.replace(run.spec, budgets=(budget,)))
    return _report(run, execute)


def _variant_result(
    run: SweepRun, report: Report | None, budget_ms: float, resources: Resources
) -> VariantResult:
    spec = run.spec
    width_mult = spec.width_mult if spec.width_mults else None
    if report is None:
        return VariantResult(
            precision=spec.precision,
            resolution=spec.resolution,
            width_mult=width_mult,
            verdict="not searched",
            reason=f"even the fastest network takes longer than {budget_ms:.4g} ms",
        )
    result: Result = report.results[0]
    file = result.artifacts[0]
    architecture = read_architecture(run.folder / "search" / "architecture.json")
    dataset = resolve(spec, resources).dataset_at(architecture.input_shape)
    valid = dataset.valid.loaded()
    images = to_model_input(valid.images, dataset, spec.pixels)
    logits = file_outputs(run.folder / file.path, images)
    return VariantResult(
        precision=spec.precision,
        resolution=spec.resolution,
        width_mult=width_mult,
        verdict=result.verdict,
        median_ms=None if result.latency is None else result.latency.median_ms,
        validation_accuracy=accuracy(logits, valid.labels),
    )
