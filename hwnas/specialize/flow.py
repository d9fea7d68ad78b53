"""`hwnas specialize`: from a device, a budget and data to a measured model file and its report."""

from __future__ import annotations

from collections.abc import Iterable
from contextlib import closing
from functools import partial
from pathlib import Path

from hwnas.console import Console
from hwnas.data.datasets import Dataset
from hwnas.devices.profile import DeviceProfile
from hwnas.report.report import Report
from hwnas.specialize.context import RunContext
from hwnas.specialize.results.compose import compose
from hwnas.specialize.results.metrics import metrics
from hwnas.specialize.run_folder import RunFolder
from hwnas.specialize.setup.dry_run import PlanReport, plan_report, plan_run
from hwnas.specialize.setup.python_values import with_files
from hwnas.specialize.setup.resolve import ResolvedRun, Resources, open_run, resolve
from hwnas.specialize.setup.scale.cells import sized
from hwnas.specialize.setup.scale.width import widened
from hwnas.specialize.setup.start.answers import with_answers
from hwnas.specialize.setup.start.default import started
from hwnas.specialize.spec import RunSpec, check_types
from hwnas.specialize.steps.deliver import choose_to_train, deliver, further_candidates
from hwnas.specialize.steps.search_rounds import search_rounds
from hwnas.specialize.steps.train_candidates import train_all
from hwnas.specialize.sweep import (
    SweepRun,
    run_scenarios,
    run_variants,
    scenarios,
    sharing,
    variants,
)
from hwnas.specialize.tracking import Tracker, Tracking


def specialize(
    spec: RunSpec,
    folder: Path,
    console: Console,
    resume: bool = False,
    *,
    dataset: Dataset | None = None,
    profiles: Iterable[DeviceProfile] = (),
    tracker: Tracker | None = None,
) -> Report:
    """Find, train, compile and measure a network for each target and latency budget.

    Several targets or budgets share one supernet, and each has a result. Several precisions,
    resolutions or widths are searched separately, and the best file is delivered. A generous budget
    in ms widens the space, unless a width is given. Every step leaves its result in ``folder`` and
    is not repeated when the run is resumed. ``dataset`` replaces ``spec.data``, and ``profiles``
    replace the targets of the same names. ``tracker`` receives the metrics of the search and of the
    trainings, and is closed. Raises `HwnasError`; a budget that no trained network keeps is a
    verdict in the report.
    """
    spec = with_files(check_types(spec), folder, dataset, profiles)
    spec = with_answers(started(spec, folder, console), folder, console)
    runs = scenarios(spec, folder)
    with (
        closing(Tracking(tracker, console.warn)) as tracking,
        Resources(console, tracking, folder) as resources,
    ):
        if len(runs) == 1:
            return _specialize_scenario(runs[0], resources, resume)
        resources.budgets = sharing(runs)
        for run in _resolved(spec, resources):
            plan_run(run)  # a budget that is out of reach is an error before any training
        with RunFolder.open(folder, spec, resume, console.say):
            execute = partial(_specialize_scenario, resources=resources)
            report = run_scenarios(runs, spec, folder, console, execute)
            report.write(folder)
            return report


def _specialize_scenario(run: SweepRun, resources: Resources, resume: bool) -> Report:
    """Specialise for one target and budget: the best of all variants."""
    folder = run.folder
    spec = _scaled(run.spec, resources, folder)
    runs = variants(spec, folder)
    if len(runs) == 1:
        return _specialize_variant(runs[0], resources, resume)
    with RunFolder.open(folder, spec, resume, resources.console.say):
        execute = partial(_specialize_variant, resources=resources)
        report = run_variants(runs, spec, folder, resources, execute)
        report.write(folder)
        return report


def _specialize_variant(run: SweepRun, resources: Resources, resume: bool) -> Report:
    # device, data, space, latency model, budget: any error in them is raised before any training
    with open_run(run.spec, run.folder, resources, resume) as context:
        report = _steps(context)
        report.write(run.folder)
        for result in report.results:
            context.tracking.log(0, metrics(result))
        return report


def _steps(run: RunContext) -> Report:
    # search, derive networks inside the budget, measure them; correct the model and search on
    screened = search_rounds(run)
    # train the best of them, each in a process of its own
    chosen = choose_to_train(screened, run)
    results = train_all(run, chosen)
    # compile to ONNX and TFLite, verify against PyTorch on real images, measure the very files
    delivered = deliver(run, screened.model, chosen, results)
    # the files may be slower or faster than their screening: then train the next best ones
    while more := further_candidates(screened, run, delivered):
        chosen += more
        results += train_all(run, more)
        delivered = deliver(run, screened.model, chosen, results)
    return compose(run, screened, delivered)


def plan(spec: RunSpec, console: Console) -> PlanReport:
    """Return the plan of a run and the latencies that it can reach; nothing is trained."""
    with Resources(console) as resources:
        spec = with_answers(started(check_types(spec), None, console), None, console)
        resources.budgets = sharing(scenarios(spec, Path()))
        return plan_report(_resolved(spec, resources))


def _resolved(spec: RunSpec, resources: Resources) -> list[ResolvedRun]:
    """Yield each run of a sweep with its device, data and space looked up."""
    return [
        resolve(variant.spec, resources)
        for scenario in scenarios(spec, Path())
        for variant in variants(_scaled(scenario.spec, resources), Path())
    ]


def _scaled(spec: RunSpec, resources: Resources, folder: Path | None = None) -> RunSpec:
    """Return ``spec`` with the width or the size of networks that its budget allows."""
    return sized(widened(spec, resources, folder), resources, folder)
