"""The closed loop of a search: predicted latencies are measured before anything is trained."""

from __future__ import annotations

from pathlib import Path
from typing import cast

import msgspec
import torch

from hwnas.console import Update
from hwnas.files import read_json, write_json
from hwnas.latency_models.fitting.fit import update_model
from hwnas.latency_models.model import LatencyModel
from hwnas.latency_models.observation import Observation
from hwnas.search.log import LogLine
from hwnas.search.loop import SearchSpeed, run_search
from hwnas.search.objective import SOFT
from hwnas.search.plan import SearchFiles
from hwnas.search.registry import load_strategy, parse_options
from hwnas.search.strategy import (
    OwnLoop,
    ParallelStrategy,
    SearchContext,
    SteppedStrategy,
    Strategy,
)
from hwnas.spaces.int8 import in_float
from hwnas.specialize.context import MIN_BUDGET_USE, Candidate, RunContext
from hwnas.specialize.distributed.tasks import SearchTask, together
from hwnas.specialize.progress import WaitingRemedy, speed_text, standings
from hwnas.specialize.setup.device import child_gpus
from hwnas.specialize.steps.baselines import inherited_weights
from hwnas.specialize.steps.original import export_original
from hwnas.specialize.steps.screening import ScreeningResult, screen
from hwnas.training.images.loader import Data
from hwnas.training.seeds import derived_seed, seeded

MAX_ROUNDS = 3


def search_rounds(run: RunContext) -> ScreeningResult:
    """Search, derive networks and measure them; correct the latency model and continue to search if
    too few of them keep the budget.

    Returns the last round, with the networks of earlier rounds that keep the budget. Their
    latencies are measured if the target can be reached.
    """
    run.compute.start()
    model, strategy = run.latency_model, _strategy(run)
    train, valid = run.images(run.dataset.input_shape)
    if run.spec.objective in SOFT:
        run.console.say(
            f"objective {run.spec.objective!r} is a soft penalty: the expected latency may "
            "end far from the budget; the networks are then chosen within it"
        )
    earlier: list[Candidate] = []
    for number in range(1, MAX_ROUNDS + 1):
        path = run.folder.path / "search" / f"round-{number}.json"
        screened = _stored(run, path)
        if screened is None:
            strategy.set_costs(model.costs(run.space), run.budget_ms)
            _search(run, strategy, number, train, valid)
            export_original(run)
            screened = screen(run, strategy, model, number)
            write_json(path, screened)
        result = _with(screened, earlier)
        run.console.standings(
            f"networks near the budget of {run.budget_ms:.4g} ms",
            standings(result.candidates, run.budget_ms),
        )
        if run.target.runner is None or is_enough(result, run) or number == MAX_ROUNDS:
            return result
        keeping = keeping_budget(screened, run.budget_ms)
        earlier += keeping
        corrected = _corrected(run, screened)
        outcome = (
            f"round {number}: {len(keeping)} of "
            f"{sum(candidate.origin == 'search' for candidate in screened.candidates)} networks "
            f"keep {run.budget_ms:.4g} ms when measured; "
        )
        if corrected is None:
            run.console.say(
                f"{outcome}other programs disturbed all measurements, so only CPU times are known "
                "and the latency model is not corrected: the search ends"
            )
            return result
        model = corrected
        if (fastest_ms := model.costs(run.space).smallest_ms) > run.budget_ms:
            run.console.say(
                f"{outcome}by the corrected latency model the fastest network of the space takes "
                f"{fastest_ms:.4g} ms, so the search ends"
            )
            return result
        run.console.say(f"{outcome}the search continues with a corrected latency model")
    raise AssertionError("the last round returns")


def _stored(run: RunContext, path: Path) -> ScreeningResult | None:
    """Return a stored round, unless initial weights of its trainings are missing."""
    if not path.exists():
        return None
    screened = read_json(path, ScreeningResult)
    for candidate in screened.candidates:
        weights = inherited_weights(run, candidate.architecture)
        if candidate.inherits and not weights.exists():
            run.console.say(
                f"{weights}: is missing, and the training of {candidate.name} starts from it: the "
                "networks are chosen again"
            )
            return None
    return screened


def keeping_budget(screened: ScreeningResult, budget_ms: float) -> list[Candidate]:
    """Return the searched networks whose measured median is within the budget and uses it."""
    return [
        candidate
        for candidate in screened.candidates
        if candidate.origin == "search"
        and candidate.measured_ms is not None
        and MIN_BUDGET_USE * budget_ms <= candidate.measured_ms <= budget_ms
    ]


def is_enough(screened: ScreeningResult, run: RunContext) -> bool:
    """Return whether a round has as many networks within the budget as are to be trained."""
    searched = [candidate for candidate in screened.candidates if candidate.origin == "search"]
    return len(keeping_budget(screened, run.budget_ms)) >= min(run.effort.trained, len(searched))


def _with(screened: ScreeningResult, earlier: list[Candidate]) -> ScreeningResult:
    """Add the networks of earlier rounds, each architecture once."""
    known = {candidate.architecture.digest for candidate in screened.candidates}
    added = [candidate for candidate in earlier if candidate.architecture.digest not in known]
    return msgspec.structs.replace(screened, candidates=(*screened.candidates, *added))


def _strategy(run: RunContext) -> Strategy:
    spec = run.spec
    torch.manual_seed(derived_seed(spec.seed, "supernet"))
    context = SearchContext(
        space=in_float(run.space),
        costs=run.latency_model.costs(run.space),
        budget_ms=run.budget_ms,
        generator=seeded(spec.seed, "paths"),
        arch_learning_rate=run.effort.arch_learning_rate,
        share_weights=spec.share_weights,
        objective=spec.objective,
        options=parse_options(spec.strategy, spec.strategy_options),
        compute=run.compute,
        accumulate=run.search_plan.accumulate,
        gpus=child_gpus(spec.device, run.compute),
        data=spec.data,
        group_by=spec.group_by,
        weights=run.weights,
        slices=run.slices,
        warn=run.console.say,
        stage=run.folder.stage,
    )
    return load_strategy(spec.strategy).begin(context)


def _search(run: RunContext, strategy: Strategy, number: int, train: Data, valid: Data) -> None:
    plan, files = run.search_plan, SearchFiles.of_run(run.folder.path)
    files.log.parent.mkdir(parents=True, exist_ok=True)
    total_steps = strategy.traits.total_steps
    total = (
        plan.epochs(number) * max(1, plan.images_shown(len(train.labels)) // plan.batch_size)
        if total_steps is None
        else total_steps(plan, number)
    )
    title = "search" if number == 1 else f"search, round {number}"
    with run.console.step(title) as update, run.folder.stage("search"):
        reporter = _Reporter(run, update, total)
        seed = run.spec.seed
        with together(_shared(run, strategy, number)):
            if strategy.traits.own_loop:
                cast(OwnLoop, strategy).search(
                    train, valid, plan, seed, files, number, reporter.line
                )
            else:
                stepped = cast(SteppedStrategy, strategy)
                run_search(
                    stepped,
                    train,
                    valid,
                    plan,
                    seed,
                    files,
                    number,
                    reporter.line,
                    reporter.speed,
                )


class _Reporter:
    """Prints the progress of a search, and sends its metrics to a tracker."""

    def __init__(self, run: RunContext, update: Update, total: int) -> None:
        self.run, self.update, self.total = run, update, total
        self.remedy = WaitingRemedy(run.dataset.train.images, run.spec.data, run.console.say)
        self.latest: SearchSpeed | None = None

    def speed(self, speed: SearchSpeed) -> None:
        self.latest = speed

    def line(self, line: LogLine) -> None:
        expected = "" if line.expected_ms is None else f", expected {line.expected_ms:.4g} ms"
        text = f"{line.phase}: loss {line.loss:.3f}{expected}"
        if self.latest is not None:
            text += f", {speed_text(self.latest, self.run.compute)}"
            self.remedy.check(self.latest.waiting)
            self.run.tracking.sample_line("search speed", line.step, self.latest)
        self.update(line.step, self.total, text)
        self.run.tracking.sample_line("search", line.step, line)


def _shared(run: RunContext, strategy: Strategy, number: int) -> SearchTask | None:
    """Return the task of the other ranks: train the same supernet up to the end of the round."""
    if not strategy.traits.parallel:
        return None
    return SearchTask(
        run.spec,
        cast(ParallelStrategy, strategy).costs,
        run.budget_ms,
        run.effort.arch_learning_rate,
        run.search_plan,
        number,
        run.compute,
    )


def _corrected(run: RunContext, screened: ScreeningResult) -> LatencyModel | None:
    """Return the round's latency model, updated with the networks that it measured.

    ``None`` if other programs disturbed all of them, so that only their CPU time is known.
    """
    measurements = run.folder.measured(f"screen-{screened.round}")
    observations = [
        Observation(
            "network",
            candidate.architecture.compute_blocks,
            measurement.median_ms,
            measurement.standard_error,
        )
        for candidate in screened.candidates
        if (measurement := measurements.get(candidate.architecture.digest)) is not None
        and measurement.clock == "wall"
    ]
    return update_model(screened.model, observations) if observations else None
