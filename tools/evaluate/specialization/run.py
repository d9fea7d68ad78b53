"""Searches on published tables of real devices: the gain of a network for one device.

    python -m tools.evaluate.specialization.run ofa    [--data DIR] [--seeds 10] [--json OUT]
    python -m tools.evaluate.specialization.run across [--data DIR] [--seeds 3]  [--json OUT]
    python -m tools.evaluate.specialization.run nb201  [--data DIR] [--seeds 100] [--json OUT]

``ofa``: accuracy at a latency, by every strategy, on each device with a published table.
``across``: each device's network on the others. ``nb201``: regret against queries under a limit.
All three use tables and a published predictor; nothing is trained. Each writes results/PART.md.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from pathlib import Path

import click
import numpy as np

from hwnas.errors import UnknownName
from hwnas.search.blackbox.evolution import (
    evolution,
    random_search,
    regularised_evolution,
)
from hwnas.search.blackbox.nsga2 import nsga2
from hwnas.search.blackbox.problem import EvaluatedSet
from tools.evaluate.specialization import across as across_part
from tools.evaluate.specialization import learned, nb201, ofa
from tools.lib.options import data_option, json_option, seeds_option
from tools.lib.results import results_folder, sections, table, write_part

RESULTS, TITLE = results_folder(__file__), "Specialisation on published tables"
NOTE10_MS = (15.0, 20.0, 25.0, 30.0)
PUBLISHED = {15.0: 78.4, 20.0: 80.8, 25.0: 82.1, 30.0: 83.05}
"""Accuracy in percent on the Note10 that evolutions of 200,000 networks (40 s) had reached."""
LIMIT_SHARES = (0.06, 0.12, 0.18, 0.24)
"""Position of the limits between fastest and slowest network, on devices except the Note10."""
PERCENTS = (78.0, 80.0, 82.0)
CAVEATS = {
    "jetson_gpu": "6 of 96 rows are copies of the Note10's, the rest hardly depends on resolution "
    "or kernel (launch-bound)",
    "jetson_cpu": "one row is a copy of the Note10's; noisy: median std/mean 0.34",
}


@click.group()
def cli() -> None:
    """Evaluate searches on published tables."""


@cli.command("ofa")
@data_option
@json_option
@seeds_option(10)
@click.option(
    "--few", default=3, show_default=True, help="Seeds of the other strategies than evolution."
)
@click.option(
    "--device", "names", multiple=True, help="Device to evaluate. [default: all in the data]"
)
def ofa_part(data: Path, out: Path | None, seeds: int, few: int, names: Sequence[str]) -> None:
    """Compare strategies by accuracy at a latency, on tables of Once-for-all's blocks."""
    predictor = ofa.Predictor(data / "ofa" / "acc_predictor_mbv3.npz")
    parts: list[tuple[str, str]] = []
    figures: list[dict[str, object]] = []
    for device in _tables(data, names):
        rows: list[list[object]] = []
        for limit_ms in _limits(device, predictor):
            for name, search in _searches(device, predictor).items():
                count = seeds if name == "evolution" else few
                results = [_run_timed(search, limit_ms, seed) for seed in range(count)]
                percents, ms, queries, seconds = np.array(results).T
                middle = int(np.argsort(percents)[len(percents) // 2])
                row = [limit_ms, name, count, np.median(percents), percents.min(), percents.max()]
                rows.append(
                    [
                        *_two_decimals(row),
                        *_two_decimals([ms[middle], np.median(seconds)]),
                        int(queries[0]),
                    ]
                )
                figures.append(
                    {"device": device.name, "limit_ms": limit_ms, "strategy": name}
                    | {"percent": percents.tolist(), "ms": ms.tolist(), "s": seconds.tolist()}
                )
                click.echo(f"{device.name} {limit_ms:.4g} ms {name}: {np.median(percents):.2f} %")
        titles = ["limit, ms", "strategy", "seeds", "median, %", "least", "greatest"]
        titles += ["ms of the median", "s", "queries"]
        caveat = f"Caveat: {CAVEATS[device.name]}.\n\n" if device.name in CAVEATS else ""
        parts.append((device.name, caveat + table(titles, rows)))
    text = (
        "Predicted accuracy (the published predictor; no network was trained) of the best network "
        "within the limit. Resolutions: those of the tables that the predictor knows, "
        f"{', '.join(map(str, _tables(data)[0].resolutions))} of the 17. On the Note10, "
        "evolutions of 200,000 networks had reached "
        + ", ".join(f"{percent} % at {ms:g} ms" for ms, percent in PUBLISHED.items())
        + "; the released tutorial reports 81.71 % at 24.73 ms in 15 to 20 s. The front of NSGA-II "
        "is one run for all limits; its time is that of the whole run. One BLAS thread."
    )
    arguments = f"ofa --seeds {seeds} --few {few}" + "".join(f" --device {name}" for name in names)
    click.echo(
        write_part(
            __file__, "ofa", TITLE, arguments, text, sections(parts), figures=figures, out=out
        )
    )


@cli.command("across")
@data_option
@json_option
@seeds_option(3)
def across(data: Path, out: Path | None, seeds: int) -> None:
    """Measure the fastest network of each device at an accuracy on all devices."""
    predictor = ofa.Predictor(data / "ofa" / "acc_predictor_mbv3.npz")
    devices = _tables(data)
    parts: list[tuple[str, str]] = []
    figures: list[dict[str, object]] = []
    for percent in PERCENTS:
        rows: list[list[object]] = []
        networks: list[tuple[str, ofa.Table, np.ndarray]] = []
        for device in devices:
            row, _ = across_part.fastest_of_accuracy(device, predictor, percent, seeds)
            networks.append((device.name, device, row))
            figures.append({"percent": percent, "device": device.name, "choices": row.tolist()})
        own_ms = [device.latency_ms(row[None])[0] for _, device, row in networks]
        wins = 0
        for number, (name, device, row) in enumerate(networks):
            ms = [other.latency_ms(row[None])[0] for other in devices]
            shares = [f"{a:.2f} ({a / b:.2f})" for a, b in zip(ms, own_ms, strict=True)]
            wins += all(a >= b for a, b in zip(ms, own_ms, strict=True))
            accuracy = ofa.problem(device, predictor).accuracy(row[None])[0]
            size, blocks, kernel, ratio = across_part.shape_of(device, row)
            shape = f"{size:.0f} px, {blocks:.0f} blocks, k {kernel:.2f}, e {ratio:.2f}"
            rows.append([f"{name}'s", f"{accuracy:.2f}", *shares, shape])
            figures[number - len(networks)] |= {"ms": ms, "accuracy": accuracy}
        names = [f"ms on {other.name}" for other in devices]
        titles = ["network", "predicted, %", *names, "shape"]
        drawing = across_part.picture(f"Fastest of {percent:g} % for each device", networks)
        name = f"{percent:g}.svg"
        (RESULTS / name).write_text(drawing)
        verdict = (
            f"Each is the fastest of its column: {'yes' if wins == len(networks) else 'no'}.\n\n"
        )
        parts.append(
            (f"At least {percent:g} %", f"{verdict}{table(titles, rows)}\n\n![blocks]({name})")
        )
    text = (
        "In brackets: ratio to the latency of that device's own network. Each network is the "
        "fastest on its device at an accuracy, by predictor and tables, the best of "
        f"{seeds} seeds. Kernel and expansion are means over the blocks. "
        + " ".join(f"{name}: {caveat}." for name, caveat in CAVEATS.items())
    )
    click.echo(
        write_part(
            __file__,
            "across",
            TITLE,
            f"across --seeds {seeds}",
            text,
            sections(parts),
            figures=figures,
            out=out,
        )
    )


@cli.command("nb201")
@data_option
@json_option
@seeds_option(100)
@click.option(
    "--device", "names", multiple=True, help="Device to evaluate. [default: all in the file]"
)
@click.option("--part", default="nb201", show_default=True, help="Name of the results file.")
def nb201_part(data: Path, out: Path | None, seeds: int, names: Sequence[str], part: str) -> None:
    """Compare searches by regret against queries on NAS-Bench-201 under measured latencies."""
    cells = nb201.read(data)
    parts: list[tuple[str, str]] = []
    figures: list[dict[str, object]] = []
    violations = 0
    for device in names or cells.ms:
        rows: list[list[object]] = []
        for percentile in nb201.PERCENTILES:
            for name in nb201.SEARCHES:
                regrets = np.array(
                    [nb201.regrets(cells, device, percentile, name, s) for s in range(seeds)]
                )
                violations += int(regrets[:, -1].sum())
                means = [f"{value:.3f}" for value in regrets[:, :-1].mean(0)]
                worst = f"{np.percentile(regrets[:, -2], 90):.3f}"
                rows.append([f"{percentile} %", name, *means, worst])
                figures.append({"device": device, "percentile": percentile, "search": name})
                figures[-1]["regret"] = regrets[:, :-1].mean(0).tolist()
                click.echo(f"{device} {percentile} % {name}: {means[-1]} points")
        titles = ["limit", "search", *map(str, nb201.QUERIES), f"90 % at {nb201.QUERIES[-1]}"]
        caveat = f"{nb201.CAVEATS[device]}.\n\n" if device in nb201.CAVEATS else ""
        parts.append((device, caveat + table(titles, rows)))
    text = (
        f"Mean regret in points of CIFAR-10 accuracy by number of queries, {seeds} seeds: best "
        "cell within the limit minus the best that was evaluated. Limits are percentiles of "
        f"the latency of the {len(cells.ops):,} cells with a path from input to output. "
        "Accuracies after full training are those of `analog_nb201_cifar10` (float), not "
        "NAS-Bench-201's own numbers; a query is one accuracy, latencies are looked up before. "
        f"Chosen networks over the limit, by the measured latency: {violations}."
    )
    arguments = f"nb201 --seeds {seeds}" + "".join(f" --device {name}" for name in names)
    arguments += "" if part == "nb201" else f" --part {part}"
    click.echo(
        write_part(
            __file__, part, TITLE, arguments, text, sections(parts), figures=figures, out=out
        )
    )


Search = Callable[[float, int], EvaluatedSet]
"""A function that searches under a limit in ms with a seed, and returns the evaluated networks."""


def _searches(device: ofa.Table, predictor: ofa.Predictor) -> dict[str, Search]:
    problem = ofa.problem(device, predictor)

    def with_rng(run: Callable[..., EvaluatedSet]) -> Search:
        return lambda ms, seed: run(problem, ms, rng=np.random.default_rng(seed))

    return {
        "evolution": with_rng(evolution),
        "NSGA-II": with_rng(lambda problem, ms, rng: nsga2(problem, rng, generations=100)),
        "regularised evolution": with_rng(
            lambda problem, ms, rng: regularised_evolution(problem, ms, 2000, rng, 100, 25)
        ),
        "gradient": lambda ms, seed: learned.gradient(device, predictor, ms, seed),
        "REINFORCE": lambda ms, seed: learned.reinforce(device, predictor, ms, seed),
        "random": with_rng(
            lambda problem, ms, rng: random_search(problem, ms, 2000, rng, tries=50)
        ),
    }


def _run_timed(search: Search, limit_ms: float, seed: int) -> list[float]:
    """Return accuracy and latency of the best network within the limit, queries, seconds."""
    start = time.perf_counter()
    evaluated = search(limit_ms, seed)
    seconds = time.perf_counter() - start
    inside = np.where(evaluated.latency_ms <= limit_ms, evaluated.accuracy, -np.inf)
    best = int(inside.argmax())
    return [inside[best], evaluated.latency_ms[best], float(len(inside)), seconds]


def _tables(data: Path, names: Sequence[str] = ()) -> list[ofa.Table]:
    tables = [ofa.Table(path) for path in sorted((data / "ofa").glob("lut_*_17res.json"))]
    for name in names:
        if name not in {table.name for table in tables}:
            raise UnknownName("device with tables", name, [table.name for table in tables])
    return [table for table in tables if not names or table.name in names]


def _limits(device: ofa.Table, predictor: ofa.Predictor) -> tuple[float, ...]:
    """Return the limits in ms: given for the Note10, else `LIMIT_SHARES` of the device's range."""
    if device.name == "note10":
        return NOTE10_MS
    problem = ofa.problem(device, predictor)
    rng = np.random.default_rng(0)
    some = problem.latency_ms(rng.integers(0, problem.sizes, (20_000, len(problem.sizes))))
    low_ms, high_ms = float(some.min()), float(some.max())
    return tuple(float(f"{low_ms + share * (high_ms - low_ms):.3g}") for share in LIMIT_SHARES)


def _two_decimals(values: Sequence[object]) -> list[object]:
    return [f"{value:.2f}" if isinstance(value, float) else value for value in values]


if __name__ == "__main__":
    cli()
