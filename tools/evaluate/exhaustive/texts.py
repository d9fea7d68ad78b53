"""The results files of the table and of the searches, as paragraphs and tables."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from tools.evaluate.exhaustive.problem import (
    BATCH_SIZE,
    EPOCHS,
    IMAGE_SIZE,
    TEST_IMAGES,
    TRAIN_IMAGES,
    VALID_IMAGES,
    space,
)
from tools.evaluate.exhaustive.regret import (
    TRAINED,
    Regret,
    equal_trainings,
    rank_correlation,
    regret,
    tau,
)
from tools.evaluate.exhaustive.searches import PERCENTILES, SCREENED, WINDOW, Search
from tools.evaluate.exhaustive.table import Table
from tools.lib.results import sections, table

COLUMNS = ["first", f"best of {TRAINED}", "random network", "random search"]
"""Titles of the regrets, in the order of `Regret`."""


def table_text(known: Table) -> list[str]:
    """Return what the table shows about the space: spread, noise of the seeds, and the effect of
    each decision."""
    networks, seeds = known.accuracies.shape
    text = (
        f"All {networks} networks of `space.toml`, each trained by `hwnas.training.job` on the "
        f"same {TRAIN_IMAGES:,} images of Fashion-MNIST at {IMAGE_SIZE} px for {EPOCHS} epochs "
        f"(batch {BATCH_SIZE}, no augmentation), and evaluated on {TEST_IMAGES:,} test images. "
        f"Seeds that all networks have: {seeds}. "
        f"Latency on: {', '.join(known.latency_ms) or 'nothing yet'}."
    )
    if not seeds:
        return [text]
    spread: list[list[object]] = [
        ["accuracy, %, from", known.accuracy.min()],
        ["to", known.accuracy.max()],
        ["MACs, millions, from", known.macs.min() / 1e6],
        ["to", known.macs.max() / 1e6],
        ["Kendall's tau of MACs and accuracy", tau(known.macs, known.accuracy)],
        ["processor time of a training, s", known.cpu_s.mean()],
    ]
    if seeds > 1:
        pairs = [
            tau(known.accuracies[:, a], known.accuracies[:, b])
            for a in range(seeds)
            for b in range(a)
        ]
        spread += [
            ["standard deviation of the networks, points", known.network_std],
            ["standard deviation of the seeds, points", known.seed_std],
            ["Kendall's tau of two seeds, in the mean", float(np.mean(pairs))],
        ]
    for runtime, ms in known.latency_ms.items():
        spread += [
            [f"{runtime}, µs, from", 1e3 * ms.min()],
            ["to", 1e3 * ms.max()],
            ["Kendall's tau of latency and accuracy", tau(ms, known.accuracy)],
        ]
    return [
        text,
        _figures(spread),
        "Mean over all other choices, by candidate:",
        table(["decision", "candidate", "accuracy, %", *_units(known)], _effects(known)),
    ]


def _figures(rows: Sequence[Sequence[object]]) -> str:
    return table(["figure", "value"], [[name, _two(value)] for name, value in rows])


def _units(known: Table) -> list[str]:
    return [f"{runtime}, µs" for runtime in known.latency_ms]


def _effects(known: Table) -> list[list[object]]:
    rows: list[list[object]] = []
    for number, decision in enumerate(space().decisions):
        column = known.choices[:, number]
        for candidate, name in enumerate(decision.candidates):
            with_it = column == candidate
            ms = [_two(1e3 * values[with_it].mean()) for values in known.latency_ms.values()]
            accuracy = _two(known.accuracy[with_it].mean())
            rows.append([decision.name, name, accuracy, *ms])
    return rows


def regret_text(known: Table, searches: Sequence[Search]) -> list[str]:
    """Return the regret of each method by runtime and budget, and the supernets' rankings."""
    if not searches:
        return ["No search was run yet."]
    low, high = WINDOW
    text = (
        "Regret in points of test accuracy (mean over the seeds of the table) against the best "
        "network within the budget; mean ± standard deviation over the searches' seeds. Budgets "
        f"are percentiles of the measured latencies of all {len(known.choices)} networks. A search "
        f"trains its supernet on the images of the table and chooses by {VALID_IMAGES:,} "
        f"validation images; it proposes {SCREENED} networks whose predicted latency is {low:.0%} "
        f"to {high:.0%} of the budget. `first`: the first whose measured latency keeps the budget. "
        f"`best of {TRAINED}`: the most accurate of the first {TRAINED} that keep it, by one "
        "training each on the test images, as for the random searches. `random network`: the mean "
        f"of the networks with {low:.0%} to 100 % of the budget. `random search`: of such "
        f"networks, as many are trained once as the search and its {TRAINED} trainings take time "
        "for."
    )
    parts = [("All budgets", _all_budgets(known, searches))]
    for runtime in known.latency_ms:
        for percentile in PERCENTILES:
            us = 1e3 * known.budget_ms(runtime, percentile)
            title = f"{runtime}, budget {percentile} %: {us:.1f} µs"
            parts.append((title, _regrets(known, searches, runtime, percentile)))
    return [text, sections(parts), "## Ranking by the supernets", _rankings(known, searches)]


def _all_budgets(known: Table, searches: Sequence[Search]) -> str:
    """Return each method's mean over all its searches, with the standard error of that mean."""
    rows: list[list[object]] = []
    for method in dict.fromkeys(search.method for search in searches):
        taken = [search for search in searches if search.method == method]
        regrets = [regret(known, search) for search in taken]
        columns = zip(*(row[: len(COLUMNS)] for row in regrets), strict=True)
        cells = [_mean_and_error(column) for column in columns]
        rows.append([method, len(taken), *cells, f"{np.mean([each.cpu_s for each in taken]):.0f}"])
    text = "Mean ± its standard error over the searches.\n\n"
    return text + table(["method", "searches", *COLUMNS, "core-seconds"], rows)


def _mean_and_error(values: Sequence[float]) -> str:
    known = [value for value in values if not np.isnan(value)]
    if len(known) < 2:
        return _mean_and_std(values)
    return f"{np.mean(known):.2f} ± {np.std(known, ddof=1) / np.sqrt(len(known)):.2f}"


def _regrets(known: Table, searches: Sequence[Search], runtime: str, percentile: int) -> str:
    rows: list[list[object]] = []
    budget_ms = known.budget_ms(runtime, percentile)
    for method in dict.fromkeys(search.method for search in searches):
        taken = [
            search
            for search in searches
            if (search.method, search.runtime, search.percentile) == (method, runtime, percentile)
        ]
        if not taken:
            continue
        regrets = [regret(known, search) for search in taken]
        columns = [[row[place] for row in regrets] for place in range(len(Regret._fields) - 1)]
        rows.append(
            [
                method,
                len(taken),
                *map(_mean_and_std, columns),
                f"{np.mean([equal_trainings(known, search) for search in taken]):.0f}",
                sum(row.over for row in regrets),
                f"{np.mean([search.cpu_s for search in taken]):.0f}",
            ]
        )
    titles = ["method", "seeds", *COLUMNS]
    titles += ["trainings of it", "proposals over the budget", "core-seconds"]
    best = f"Best network: {known.best(runtime, budget_ms):.2f} %.\n\n"
    return best + table(titles, rows)


def _rankings(known: Table, searches: Sequence[Search]) -> str:
    text = (
        "Kendall's tau-b of the mean probabilities of the labels with the supernet's weights and "
        "the truth, over all networks and over those with 80 to 100 % of the budget; `evolution` "
        "and `NSGA-II` have the supernet of `random`.\n\n"
    )
    rows: list[list[object]] = []
    ranked = [search for search in searches if search.supernet]
    for method in dict.fromkeys(search.method for search in ranked):
        taken = [search for search in ranked if search.method == method]
        everywhere = [rank_correlation(known, search.supernet) for search in taken]
        near = [rank_correlation(known, each.supernet, _near(known, each)) for each in taken]
        mean = [float(np.mean(search.supernet)) for search in taken]
        rows.append([method, len(taken), *map(_mean_and_std, (everywhere, near, mean))])
    titles = ["method", "supernets", "tau, all", "tau, near the budget", "mean probability"]
    return text + table(titles, rows)


def _near(known: Table, search: Search) -> np.ndarray:
    ms, budget_ms = (
        known.latency_ms[search.runtime],
        known.budget_ms(search.runtime, search.percentile),
    )
    return np.flatnonzero((ms >= 0.8 * budget_ms) & (ms <= budget_ms))


def _mean_and_std(values: Sequence[float]) -> str:
    known = [value for value in values if not np.isnan(value)]
    if not known:
        return "-"
    spread = f" ± {np.std(known, ddof=1):.2f}" if len(known) > 1 else ""
    missing = f" ({len(values) - len(known)} without)" if len(known) < len(values) else ""
    return f"{np.mean(known):.2f}{spread}{missing}"


def _two(value: object) -> object:
    return f"{value:.2f}" if isinstance(value, float) else value
