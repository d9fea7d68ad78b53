"""The plan of a run, before anything is trained: ``--dry-run``."""

from __future__ import annotations

import time
from collections.abc import Iterable
from pathlib import Path
from typing import Literal

import msgspec

from hwnas.search.plan import SearchPlan
from hwnas.specialize.setup.budget import latency_range
from hwnas.specialize.setup.device import settle_compute
from hwnas.specialize.setup.resolve import ResolvedRun
from hwnas.specialize.setup.work.estimate import judged_networks
from hwnas.specialize.setup.work.settle import settle_work
from hwnas.specialize.spec import Precision
from hwnas.training.plan import TrainingPlan


class PlannedLatency(msgspec.Struct, frozen=True):
    kind: Literal["table", "predicted"]


class PlannedRun(msgspec.Struct, frozen=True):
    """A run of one target and budget, and the latencies that it can reach."""

    target: str
    runtime: str
    precision: Precision
    space: str
    """Name of the space, with the width or size of its networks if the run chose it."""
    budget_ms: float
    range_ms: tuple[float, float, float]
    """Least, median and greatest latency of the space's networks."""
    latency: PlannedLatency
    networks: int
    source: str
    """Source of the latency model."""


class PlannedData(msgspec.Struct, frozen=True):
    """Numbers of images, and their shape ``(C, H, W)``."""

    name: str
    train: int
    valid: int
    test: int
    input_shape: tuple[int, int, int]


class PlanReport(msgspec.Struct, frozen=True, kw_only=True):
    """The document of ``hwnas specialize --dry-run --json``."""

    schema: int = 1
    dry_run: bool = True
    results: tuple[PlannedRun, ...]
    data: PlannedData
    search: SearchPlan
    judged: int
    """Number of networks that the strategy evaluates on its supernet; 0 for other strategies."""
    training: TrainingPlan
    starts_from: str = ""
    """Name of the trained network that is cut; empty: networks are trained from scratch."""


def plan_run(run: ResolvedRun, folder: Path | None = None) -> PlannedRun:
    """Return the latencies that a run can reach on its target; measures a latency model if there is
    none.

    Raises `BudgetError` for a budget out of reach. ``folder`` is that of a run to resume.
    """
    model = run.latency_model(folder)
    return PlannedRun(
        target=run.target.profile.name,
        runtime=run.target.profile.runtime,
        precision=run.spec.precision,
        space=run.space.name,
        budget_ms=run.budget_ms(model),
        range_ms=latency_range(run.space, model.costs(run.space)),
        latency=PlannedLatency("table" if model.kind == "table" else "predicted"),
        networks=run.space.size,
        source=model.source,
    )


def plan_report(runs: Iterable[ResolvedRun]) -> PlanReport:
    """Return the plan of all runs of a sweep; data and work are those of the first."""
    first, *_ = runs = list(runs)
    data = first.dataset
    setting = first.setting(first.latency_model(), settle_compute(first.spec, None))
    work = settle_work(setting, None, first.resources.console, time.perf_counter())
    spec, images = first.spec, len(data.train.labels)
    return PlanReport(
        results=tuple(map(plan_run, runs)),
        data=PlannedData(
            data.name,
            images,
            len(data.valid.labels),
            len(data.test.labels),
            data.input_shape,
        ),
        search=work.search,
        judged=judged_networks(spec.strategy, work, images, spec.strategy_options),
        training=work.training,
        starts_from="" if first.start is None else first.start.network.name,
    )
