"""Several targets and budgets: one supernet, a network for every pair of them.

Each pair is a run in a folder of its own inside the run's. The supernet is trained in the first
one: a search whose weights know no latency (`hwnas.search.blackbox.random` and what judges networks
on such a supernet) is taken over whole, any other after its warm-up, which knows none either (where
it does, as in ISTA-NAS, nothing is). Both are what the pair would have computed itself, so the
result is the same as that of separate runs.
"""

from __future__ import annotations

import shutil
from collections.abc import Callable
from itertools import product
from pathlib import Path
from typing import Any, NamedTuple

import msgspec

from hwnas.console import Console
from hwnas.devices.profile import find_profile
from hwnas.report.report import Report
from hwnas.report.schema import Result
from hwnas.search.log import read_log, write_log
from hwnas.search.plan import SearchFiles
from hwnas.search.registry import load_strategy
from hwnas.specialize.pairs import pairs_of, plan_all
from hwnas.specialize.results.next_commands import next_commands
from hwnas.specialize.run_folder import Config, RunFolder, command_line


class Scenario(NamedTuple):
    config: Config
    folder: Path


def scenarios_of(config: Config, folder: Path) -> list[Scenario]:
    """Return the runs that ``config`` stands for; one, in ``folder`` itself, where it is plain.

    Several share the space as it is: its width is that asked for, or 1.
    """
    targets = config.target.split(",")
    budgets = config.budget.split(",")
    found = [
        msgspec.structs.replace(config, target=target.strip(), budget=budget.strip())
        for target, budget in product(targets, budgets)
    ]
    if len(found) == 1:
        return [Scenario(found[0], folder)]
    width = config.width_mult or "1"
    found = [msgspec.structs.replace(one, width_mult=width) for one in found]
    names = ["-".join(filter(None, (Path(one.target).stem, one.budget))) for one in found]
    return [
        Scenario(one, folder / "scenarios" / name) for one, name in zip(found, names, strict=True)
    ]


def plan_scenarios(config: Config, console: Console) -> dict[str, object]:
    """Return the plan of a run, with a result for each of its targets and budgets."""
    plans = [plan_all(one.config, console) for one in scenarios_of(config, Path())]
    results = [result for one in plans for result in one["results"]]  # type: ignore[attr-defined]
    return {**plans[0], "results": results}


def specialize_scenarios(
    config: Config,
    folder: Path,
    console: Console,
    resume: bool,
    one: Callable[[Config, Path, Console, bool], Report],
) -> Report:
    """Run every target and budget by ``one``; the report has a result for each.

    A budget that cannot be kept on one of the targets is an error before any training.
    """
    plan_scenarios(config, console)
    with RunFolder.open(folder, config, resume):
        return _run_scenarios(config, folder, console, one)


def _run_scenarios(
    config: Config,
    folder: Path,
    console: Console,
    one: Callable[[Config, Path, Console, bool], Report],
) -> Report:
    scenarios = scenarios_of(config, folder)
    reports: list[Report] = []
    for scenario in scenarios:
        console.say(f"{scenario.folder.name}: {scenario.config.target}, {scenario.config.budget}")
        done = scenario.folder / "report.json"
        if done.exists():
            reports.append(Report.read(done))
            continue
        if scenario is not scenarios[0]:
            share_supernet(scenarios[0], scenario)
        begun = (scenario.folder / "config.toml").exists()
        reports.append(one(scenario.config, scenario.folder, console, begun))
    report = merged(reports, scenarios, command_line(config))
    return msgspec.structs.replace(report, commands=next_commands(config, folder, report.results))


def share_supernet(source: Scenario, to: Scenario) -> None:
    """Give a run the supernet of another, if it would compute the same one and has none yet."""
    target = SearchFiles.of_run(to.folder).checkpoint
    images = [find_profile(one.config.target).default_input for one in (source, to)]
    plain = len(pairs_of(to.config, to.folder)) == 1
    if target.exists() or images[0] != images[1] or not plain:
        return
    files = SearchFiles.of_run(source.folder)
    checkpoint, lines = files.checkpoint, read_log(files.log)
    traits = load_strategy(to.config.strategy).traits
    if traits.warm_up_uses_costs:
        return
    if not traits.weights_ignore_costs:
        checkpoint = files.warm_up
        lines = [line for line in lines if line.phase == "warm-up"]
    if not checkpoint.exists():
        return
    (to.folder / "search").mkdir(parents=True, exist_ok=True)
    target.parent.mkdir(parents=True, exist_ok=True)
    write_log(SearchFiles.of_run(to.folder).log, lines)
    scratch = target.with_suffix(".part")
    shutil.copyfile(checkpoint, scratch)
    scratch.replace(target)


def merged(reports: list[Report], scenarios: list[Scenario], command: str) -> Report:
    """Return one report with the results of all; paths are those inside the whole run's folder."""
    results: list[Result] = []
    stages_s: dict[str, float] = {}
    points: list[Any] = []
    notes: list[str] = []
    for report, scenario in zip(reports, scenarios, strict=True):
        name = scenario.folder.name
        for result in report.results:
            artifacts = tuple(
                msgspec.structs.replace(row, path=f"scenarios/{name}/{row.path}")
                for row in result.artifacts
            )
            results.append(msgspec.structs.replace(result, artifacts=artifacts))
            points += [
                msgspec.structs.replace(point, target=result.target, budget_ms=result.budget_ms)
                for point in report.search
            ]
        for stage, seconds in report.stages_s.items():
            stages_s[stage] = stages_s.get(stage, 0.0) + seconds
        notes += [f"{name}: {note}" for note in report.notes]
    return msgspec.structs.replace(
        reports[0],
        command=command,
        results=tuple(results),
        search=tuple(points),
        stages_s=stages_s,
        notes=(f"{len(results)} targets and budgets; files are in scenarios/.", *notes),
    )
