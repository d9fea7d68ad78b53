"""The tables of `tools.evaluate.pretrained.run`."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from statistics import fmean, median, stdev

from tools.evaluate.pretrained.rows import (
    BASELINES,
    DELIVERED,
    KINDS,
    MEMBER,
    RANDOM,
    TUNING,
    Provenance,
    Row,
    Times,
    beside_tuning,
    best,
)
from tools.lib.results import table

MIN_USE = 0.85
"""Share of the budget that a delivered network should use."""


def accuracy_table(rows: Sequence[Row]) -> str:
    """Return the test accuracies at each budget, and the gain over the best baseline of each seed,
    which is the one of the highest validation accuracy."""
    titles = ["data", "target", "budget, %", "seeds", *KINDS, "gain over the best baseline"]
    return table(titles, (_accuracies(rows, *place) for place in _places(rows)))


def _accuracies(rows: Sequence[Row], data: str, target: str, percent: int) -> list[object]:
    mine = [r for r in rows if (r.data, r.target, r.percent) == (data, target, percent)]
    seeds = sorted({row.seed for row in mine})
    cells: list[object] = [data, target, percent, len(seeds)]
    for kind in KINDS:
        chosen = [best(r for r in mine if r.seed == seed and r.kind == kind) for seed in seeds]
        cells.append(_spread([100 * (r.test or 0.0) for r in chosen if r is not None]))
    gains: list[float] = []
    for seed in seeds:
        ours = best(r for r in mine if r.seed == seed and r.kind == DELIVERED)
        baseline = best(r for r in mine if r.seed == seed and r.kind in BASELINES)
        if ours is not None and baseline is not None:
            gains.append(100 * ((ours.test or 0.0) - (baseline.test or 0.0)))
    return [*cells, _spread(gains, signed=True)]


def budget_text(rows: Iterable[Row]) -> str:
    """Return in how many runs the delivered network keeps the budget, and in how many it uses most
    of it."""
    delivered = [row for row in rows if row.kind == DELIVERED]
    within = [row for row in delivered if row.keeps_budget]
    used = [row for row in within if row.use >= MIN_USE]
    uses = [row.use for row in delivered]
    return (
        f"{len(within)} of {len(delivered)} delivered networks keep the budget when measured; "
        f"{len(used)} of them use at least {MIN_USE:.0%} of it. They take "
        f"{min(uses):.1%} to {max(uses):.1%} of it."
    )


def latency_table(rows: Sequence[Row]) -> str:
    """Return the measured latencies, as shares of the budget."""
    kinds = [kind for kind in KINDS if any(row.kind == kind for row in rows)]

    def cells(data: str, target: str, percent: int) -> list[object]:
        mine = [r for r in rows if (r.data, r.target, r.percent) == (data, target, percent)]
        budget = fmean(row.budget_ms for row in mine)
        shares = [[100 * row.use for row in mine if row.kind == kind] for kind in kinds]
        return [data, target, percent, f"{budget:.3g}", *map(_spread, shares)]

    titles = ["data", "target", "budget, %", "budget, ms", *(f"{kind}, %" for kind in kinds)]
    return table(titles, (cells(*place) for place in _places(rows)))


def search_table(rows: Sequence[Row]) -> str:
    """Return searched beside random members, before and after the final training."""
    lines: list[list[object]] = []
    for data, target, percent in _places([row for row in rows if row.kind == RANDOM]):
        mine = [r for r in rows if (r.data, r.target, r.percent) == (data, target, percent)]
        groups = [[r for r in mine if r.kind == kind] for kind in (MEMBER, RANDOM)]
        cells: list[object] = [data, target, percent]
        for group in groups:
            before = [100 * row.before for row in group if row.before is not None]
            after = [100 * (row.test or 0.0) for row in group]
            cells += [_spread(before), _spread(after), str(len(group))]
        lines.append(cells)
    columns = ("before, %", "after, %", "networks")
    names = [f"{name} {each}" for name in ("searched", "random") for each in columns]
    return table(["data", "target", "budget, %", *names], lines) if lines else ""


def time_table(times: Sequence[Times]) -> str:
    """Return the processor time of each stage in seconds, as in a run of one target and budget:
    means over those that had the stage to themselves."""
    stages = list(dict.fromkeys(stage for each in times for stage in each.cpu_s))
    lines: list[list[object]] = []
    for data in dict.fromkeys(each.data for each in times):
        mine = [each for each in times if each.data == data]
        means: dict[str, float] = {}
        for stage in stages:
            if spent := [each.cpu_s[stage] for each in mine if stage in each.cpu_s]:
                means[stage] = fmean(spent)
        beside = beside_tuning(means)
        ratio = f"{beside / means[TUNING]:.2f}" if TUNING in means else "-"
        cells = [f"{means[stage]:.0f}" if stage in means else "-" for stage in stages]
        lines.append([data, *cells, f"{beside:.0f}", ratio])
    return table(["data", *stages, "all but tune and profile", "over tune"], lines)


def runs_table(runs: Iterable[Provenance]) -> str:
    """Return when and where the runs of each seed were made."""
    lines = [[run.data, run.seed, run.date, run.machine] for run in runs]
    return table(["data", "seed", "date", "machine"], lines)


def _places(rows: Iterable[Row]) -> list[tuple[str, str, int]]:
    return list(dict.fromkeys((row.data, row.target, row.percent) for row in rows))


def _spread(values: Sequence[float], signed: bool = False) -> str:
    """Return median ± standard deviation over the values."""
    if not values:
        return "-"
    text = f"{median(values):{'+' if signed else ''}.1f}"
    return f"{text} ± {stdev(values):.1f}" if len(values) > 1 else text
