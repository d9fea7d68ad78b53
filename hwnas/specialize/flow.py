"""`hwnas specialize`: device, budget and data in; a measured model file and its report out."""

from __future__ import annotations

from pathlib import Path

from hwnas.console import Console
from hwnas.latency_models.model import LatencyModel
from hwnas.report.report import Report
from hwnas.specialize.context import RunContext
from hwnas.specialize.pairs import pairs_of, specialize_pairs
from hwnas.specialize.results.compose import compose
from hwnas.specialize.run_folder import Config
from hwnas.specialize.scenarios import scenarios_of, specialize_scenarios
from hwnas.specialize.setup.auto_width import widened
from hwnas.specialize.setup.plan import open_run
from hwnas.specialize.steps.deliver import (
    also_worth_training,
    choose_to_train,
    deliver,
)
from hwnas.specialize.steps.search_rounds import search_rounds
from hwnas.specialize.steps.train_candidates import train_all


def specialize(config: Config, folder: Path, console: Console, resume: bool = False) -> Report:
    """Find, train, compile and measure a network for one device and one latency budget.

    Several targets or budgets are several such runs with one supernet, each with its result.
    Several precisions, resolutions or widths are several runs, of which the best is handed over.
    A budget in ms that is generous widens the space, unless a width was asked for.
    Every step leaves its result in ``folder`` and is not repeated when the run is resumed.
    Raises `HwnasError`s; a budget that no trained network keeps is a verdict in the report.
    """
    if len(scenarios_of(config, folder)) > 1:
        report = specialize_scenarios(config, folder, console, resume, specialize)
        report.write(folder)
        return report
    config = widened(config, console, folder)
    pairs = pairs_of(config, folder)
    if len(pairs) > 1:
        report = specialize_pairs(config, folder, console, resume, _specialize_one)
        report.write(folder)
        return report
    return _specialize_one(pairs[0].config, folder, console, resume)


def _specialize_one(config: Config, folder: Path, console: Console, resume: bool) -> Report:
    # device, data, space, latency model, budget: all that can be wrong is said before any training
    with open_run(config, folder, console, resume) as (run, model):
        return _steps(run, model)


def _steps(run: RunContext, model: LatencyModel) -> Report:
    # search, derive networks inside the budget, measure them; re-fit and go on where they miss it
    screened = search_rounds(run, model)
    # train the best of them, each in a process of its own
    chosen = choose_to_train(screened, run)
    results = train_all(run, chosen)
    # compile to ONNX and TFLite, verify against PyTorch on real images, measure the very files
    delivered = deliver(run, screened.model, chosen, results)
    # the files may have answered otherwise than their screening: then the next best ones
    while more := also_worth_training(screened, run, delivered):
        chosen += more
        results += train_all(run, more)
        delivered = deliver(run, screened.model, chosen, results)
    report = compose(run, screened, delivered)
    report.write(run.folder.path)
    return report
