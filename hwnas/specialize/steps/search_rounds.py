"""The closed loop of a search: what is predicted is measured before anything is trained."""

from __future__ import annotations

from typing import cast

import msgspec
import torch

from hwnas.files import write_json
from hwnas.latency_models.fitting.fit import update_model
from hwnas.latency_models.model import LatencyModel
from hwnas.latency_models.observation import Observation
from hwnas.search.log import LogLine
from hwnas.search.loop import run_search
from hwnas.search.plan import SearchFiles
from hwnas.search.registry import load_strategy
from hwnas.search.strategy import (
    OwnLoop,
    ParallelStrategy,
    SearchContext,
    SteppedStrategy,
    Strategy,
)
from hwnas.spaces.int8 import in_float
from hwnas.specialize.context import Candidate, RunContext
from hwnas.specialize.distributed.tasks import SearchTask, together
from hwnas.specialize.setup.options import strategy_options
from hwnas.specialize.steps.screening import Screened, screen
from hwnas.training.loader import Data, as_data, derived_seed, seeded
from hwnas.training.loop import keep_freed_memory

ROUNDS = 3
"""Search, measure, re-fit: at most so often."""

FAR_UNDER = 0.85
"""A network that uses less of the budget than this share wastes it."""


def search_rounds(run: RunContext, model: LatencyModel) -> Screened:
    """Search, derive, measure; where too few networks keep the budget, re-fit and search on.

    Returns the last round with the networks of earlier ones that kept the budget; all are
    measured where the target can be.
    """
    strategy = _strategy(run, model)
    train, valid = (as_data(split, run.dataset) for split in (run.dataset.train, run.dataset.valid))
    earlier: list[Candidate] = []
    for number in range(1, ROUNDS + 1):
        path = run.folder.path / "search" / f"round-{number}.json"
        if path.exists():
            screened = msgspec.json.decode(path.read_bytes(), type=Screened)
        else:
            strategy.set_costs(model.costs(run.space), run.budget_ms)
            _search(run, strategy, number, train, valid)
            screened = screen(run, strategy, model, number, train, valid)
            write_json(path, screened)
        whole = _with(screened, earlier)
        if run.target.runner is None or enough(whole, run) or number == ROUNDS:
            return whole
        earlier += keeping(screened, run.budget_ms)
        model = _refit(run, screened)
        said = (
            f"round {number}: {len(keeping(screened, run.budget_ms))} of "
            f"{sum(one.origin == 'search' for one in screened.candidates)} networks keep "
            f"{run.budget_ms:.4g} ms when measured; "
        )
        if (fastest_ms := model.costs(run.space).smallest_ms) > run.budget_ms:
            run.console.say(
                f"{said}by the corrected latency model the fastest network of the space takes "
                f"{fastest_ms:.4g} ms, so the search ends"
            )
            return whole
        run.console.say(f"{said}the latency model is corrected and the search goes on")
    raise AssertionError("the last round returns")


def keeping(screened: Screened, budget_ms: float) -> list[Candidate]:
    """Return the searched networks whose measured median keeps the budget and uses it."""
    return [
        one
        for one in screened.candidates
        if one.origin == "search"
        and one.measured_ms is not None
        and FAR_UNDER * budget_ms <= one.measured_ms <= budget_ms
    ]


def enough(screened: Screened, run: RunContext) -> bool:
    """Whether a round leaves as many networks inside the budget as are to be trained."""
    searched = [one for one in screened.candidates if one.origin == "search"]
    return len(keeping(screened, run.budget_ms)) >= min(run.effort.trained, len(searched))


def _with(screened: Screened, earlier: list[Candidate]) -> Screened:
    """Add networks of earlier rounds, each architecture once."""
    known = {one.architecture.digest for one in screened.candidates}
    added = [one for one in earlier if one.architecture.digest not in known]
    return msgspec.structs.replace(screened, candidates=(*screened.candidates, *added))


def _strategy(run: RunContext, model: LatencyModel) -> Strategy:
    config = run.spec
    torch.manual_seed(derived_seed(config.seed, "supernet"))
    context = SearchContext(
        space=in_float(run.space),
        costs=model.costs(run.space),
        budget_ms=run.budget_ms,
        generator=seeded(config.seed, "paths"),
        arch_learning_rate=run.effort.arch_learning_rate,
        share_weights=config.share_weights,
        objective=config.objective,
        options=strategy_options(config),
        warn=run.console.say,
    )
    return load_strategy(config.strategy).begin(context)


def _search(run: RunContext, strategy: Strategy, number: int, train: Data, valid: Data) -> None:
    plan, files = run.search_plan, SearchFiles.of_run(run.folder.path)
    files.log.parent.mkdir(parents=True, exist_ok=True)
    total_steps = strategy.traits.total_steps
    total = (
        plan.epochs(number) * max(1, len(train.images) // plan.batch_size)
        if total_steps is None
        else total_steps(plan, number)
    )
    title = "search" if number == 1 else f"search, round {number}"
    torch.set_num_threads(run.spec.threads)
    keep_freed_memory()
    with run.console.step(title) as update, run.folder.stage("search"):

        def on_line(line: LogLine) -> None:
            expected = "" if line.expected_ms is None else f", expected {line.expected_ms:.4g} ms"
            update(line.step, total, f"{line.phase}: loss {line.loss:.3f}{expected}")

        seed = run.spec.seed
        with together(_shared(run, strategy, number)):
            if strategy.traits.own_loop:
                cast(OwnLoop, strategy).search(train, valid, plan, seed, files, number, on_line)
            else:
                stepped = cast(SteppedStrategy, strategy)
                run_search(stepped, train, valid, plan, seed, files, number, on_line)


def _shared(run: RunContext, strategy: Strategy, number: int) -> SearchTask | None:
    """Return what the other ranks do: train the same supernet, up to the end of the round."""
    if not strategy.traits.parallel:
        return None
    return SearchTask(
        run.spec,
        cast(ParallelStrategy, strategy).costs,
        run.budget_ms,
        run.effort.arch_learning_rate,
        run.search_plan,
        number,
    )


def _refit(run: RunContext, screened: Screened) -> LatencyModel:
    """Return the round's model, corrected by the networks that it measured."""
    measured = run.folder.measured(f"screen-{screened.round}")
    added = [
        Observation(
            "network",
            one.architecture.compute_blocks,
            measurement.median_ms,
            measurement.standard_error,
        )
        for one in screened.candidates
        if (measurement := measured.get(one.architecture.digest)) is not None
    ]
    return update_model(screened.model, added)
