"""How do latency models, the choice within a budget and reports grow?

    OMP_NUM_THREADS=1 python -m tools.bench.growth --run RUN

Fits latency models of an invented device to up to 2,000 measurements, solves the knapsack of ever
longer and wider spaces, and multiplies the candidates of the report of a finished run. Seconds are
processor time of one thread. Writes ``tools/bench/results/growth.md``.
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from random import Random
from time import process_time
from typing import TypeVar

import click
import msgspec
import numpy as np

from hwnas.latency_models.cost import CostTable
from hwnas.latency_models.fitting.active_learning import select_networks
from hwnas.latency_models.storage.model_file import decode_model, encode_model
from hwnas.report.report import Report
from hwnas.search.knapsack import window_knapsack
from hwnas.spaces.mobile.space import MBCONVS, MobileSpace, mobile_space
from tools.bench.latency_model import compute_blocks, fit, observations
from tools.lib.options import out_option
from tools.lib.results import command, results_folder, table, write_results

RESULTS = results_folder(__file__) / "growth.md"
MEASUREMENTS = (160, 500, 1000, 2000)
SPACES = ((21, 7), (21, 14), (21, 28), (50, 14), (100, 14), (200, 14))
"""Decisions, and candidates of each."""
T = TypeVar("T")
CANDIDATES = (10, 100, 1000, 10_000)


@click.command()
@click.option("--run", type=click.Path(exists=True, path_type=Path), help="A finished run.")
@out_option(RESULTS)
def main(run: Path | None, out: Path) -> None:
    """Time all that grows with the number of measurements, decisions, candidates and report
    rows."""
    parts = [
        "## Measurements of a latency model\n",
        table(
            (
                "measurements",
                "blocks of the space",
                "fit, s",
                "fit and cross-validation, s",
                "200 networks with intervals, s",
                "choice of the next 6 networks of 300, s",
                "file, kB",
                "reading it, ms",
            ),
            list(latency_models()),
        ),
        "## Decisions and candidates of a space\n",
        table(("decisions", "candidates", "networks", "best one in a window, s"), list(choices())),
    ]
    if run is not None:
        parts += [
            "## Candidates of a report\n",
            table(
                (
                    "candidates",
                    "report.json, kB",
                    "reading it, ms",
                    "report.html, kB",
                    "writing, s",
                ),
                list(reports(Report.read(run / "report.json"))),
            ),
        ]
    text = write_results(
        out,
        "Growth",
        "OMP_NUM_THREADS=1 " + command(__file__, "" if run is None else "--run RUN"),
        "An invented device, random scores; processor seconds of one thread, one run each.",
        "\n".join(parts),
    )
    click.echo(text)


def latency_models() -> Iterator[tuple[object, ...]]:
    """Yield rows of models of ever more measurements."""
    gated = [msgspec.structs.replace(candidate, squeeze_excite=True) for candidate in MBCONVS]
    narrow = [msgspec.structs.replace(c, expand_ratio=c.expand_ratio + 1) for c in MBCONVS]
    space = msgspec.structs.replace(
        mobile_space((3, 224, 224), 1000), candidates=(*MBCONVS, *gated, *narrow)
    )
    blocks = len(compute_blocks(space))
    for count in MEASUREMENTS:
        yield latency_model(space, count, blocks)


def latency_model(space: MobileSpace, count: int, blocks: int) -> tuple[object, ...]:
    """Return the row of a model of ``count`` measurements, at most half of them of blocks."""
    timed = min(blocks, count // 2)
    observed = observations(space, timed, count - timed - 1)
    model, fit_s = timed_s(lambda: fit(observed))
    _, validated_s = timed_s(lambda: fit(observed, validate=True))
    rng = Random(1)
    networks = [space.architecture(space.random(rng)).blocks for _ in range(300)]
    _, predict_s = timed_s(lambda: model.predict(networks[:200]))
    _, select_s = timed_s(lambda: select_networks(model, networks, networks[:100], 6))
    content = encode_model(model)
    _, read_s = timed_s(lambda: decode_model(content, "growth"))
    times = (f"{seconds:.2f}" for seconds in (fit_s, validated_s, predict_s, select_s))
    return (len(observed), blocks, *times, f"{len(content) / 1e3:.0f}", f"{read_s * 1e3:.0f}")


def choices() -> Iterator[tuple[object, ...]]:
    """Yield rows of the most probable network in a window of 5 % below the mean latency."""
    rng = np.random.default_rng(0)
    for decisions, candidates in SPACES:
        costs = rng.lognormal(0.0, 0.6, (decisions, candidates))
        costs_ms = CostTable(tuple(map(tuple, costs.tolist())), 0.1)
        budget_ms = 0.1 + float(costs.mean(axis=1).sum())
        scores = rng.normal(0, 1, (decisions, candidates)).tolist()
        _, seconds = timed_s(
            lambda costs_ms=costs_ms, scores=scores, budget_ms=budget_ms: window_knapsack(
                scores, costs_ms, 0.95 * budget_ms, budget_ms
            )
        )
        networks = f"10^{decisions * np.log10(candidates):.0f}"
        yield decisions, candidates, networks, f"{seconds:.3f}"


def reports(report: Report) -> Iterator[tuple[object, ...]]:
    """Yield rows of the report with its candidates repeated."""
    [result, *_] = report.results
    for count in CANDIDATES:
        rows = tuple(result.candidates[number % len(result.candidates)] for number in range(count))
        larger = msgspec.structs.replace(
            report, results=(msgspec.structs.replace(result, candidates=rows),)
        )
        with tempfile.TemporaryDirectory() as scratch:
            folder = Path(scratch)
            _, write_s = timed_s(lambda larger=larger, folder=folder: larger.write(folder))
            _, read_s = timed_s(lambda folder=folder: Report.read(folder / "report.json"))
            data, page = ((folder / name).stat().st_size for name in ("report.json", "report.html"))
        yield (
            f"{count:,}",
            f"{data / 1e3:,.0f}",
            f"{read_s * 1e3:.0f}",
            f"{page / 1e3:.0f}",
            f"{write_s:.2f}",
        )


def timed_s(run: Callable[[], T]) -> tuple[T, float]:
    """Return a result and the processor seconds that it took."""
    start = process_time()
    return run(), process_time() - start


if __name__ == "__main__":
    main()
