"""Strategies on cells compared: equal core-minutes, the same training of the results.

    OMP_NUM_THREADS=1 python -m tools.evaluate.cells.run --work DIR [--data NAME]... [--seeds 3]

Finished work is stored in DIR and reused; an interrupted run continues. Writes
results/front_ends.md (``--json OUT``: the rows as JSON, too).
"""

from __future__ import annotations

from pathlib import Path
from statistics import fmean, stdev
from typing import Any

import click
import torch
from scipy.stats import kendalltau

from hwnas.architecture.architecture import Architecture, Genotype
from hwnas.files import write_json
from hwnas.training.compute import keep_freed_memory
from tools.evaluate.cells.children import TARGETS, Child, measure_ms, train_child
from tools.evaluate.cells.problem import (
    METHODS,
    Problem,
    Size,
    folder_of,
    make_problem,
    ranked_architectures,
)
from tools.evaluate.cells.searches import Search, search
from tools.lib.options import json_option, seeds_option, work_option
from tools.lib.results import command, results_folder, table, write_results

RESULTS = results_folder(__file__) / "front_ends.md"
PUBLISHED = (
    "Published, for the full training on GPUs (600 epochs, 36 channels, 20 cells, CIFAR-10): "
    "DARTS, second order, 2.76 % error, ISTA-NAS 2.54 % (two-stage) and 2.36 % (one-stage). "
    "Nothing of that size was run here."
)
DEFAULT = Size()


@click.command()
@work_option
@click.option("--data", "sets", multiple=True, default=["fashion-mnist-6k"], show_default=True)
@click.option("--method", "methods", multiple=True, type=click.Choice([*METHODS.values()]))
@seeds_option(3)
@click.option(
    "--minutes",
    default=DEFAULT.search_minutes,
    show_default=True,
    help="Processor minutes of a search.",
)
@click.option("--child-epochs", default=DEFAULT.child_epochs, show_default=True)
@click.option("--images", default=DEFAULT.train_images, show_default=True)
@click.option("--channels", default=DEFAULT.channels, show_default=True)
@click.option("--layers", default=DEFAULT.layers, show_default=True)
@click.option("--ranked", default=DEFAULT.ranked, show_default=True)
@click.option("--costs", default="macs", show_default=True, help="Or a target, e.g. host-cpu.")
@click.option("--latency/--no-latency", default=True, help="Measure on both runtimes.")
@click.option("--results", default=RESULTS, type=click.Path(path_type=Path))
@json_option
def main(
    work: Path,
    sets: tuple[str, ...],
    methods: tuple[str, ...],
    seeds: int,
    minutes: float,
    child_epochs: int,
    images: int,
    channels: int,
    layers: int,
    ranked: int,
    costs: str,
    latency: bool,
    results: Path,
    out: Path | None,
) -> None:
    """Search with every method and seed; train, measure and compare the results."""
    torch.set_num_threads(1)
    keep_freed_memory()
    size = Size(
        channels=channels,
        layers=layers,
        train_images=images,
        search_minutes=minutes,
        child_epochs=child_epochs,
        ranked=ranked,
    )
    selected = {title: name for title, name in METHODS.items() if not methods or name in methods}
    parts: list[str] = []
    rows: list[dict[str, Any]] = []
    for data in sets:
        problem = make_problem(data, size, costs)
        data_rows = evaluate(problem, selected, seeds, folder_of(work, problem), latency)
        rows += data_rows
        parts.append(_section(problem, data_rows, seeds))
    called_as = command(
        __file__,
        f"--seeds {seeds} --minutes {minutes:g} --child-epochs {child_epochs} --images {images}",
        f"--channels {channels} --layers {layers} --ranked {ranked} --costs {costs}",
        *(f"--data {Path(data).name}" for data in sets),
    )
    text = (
        f"Every search has {minutes:g} minutes of processor time (the table has the time used). "
        f"Every result is trained from scratch for {child_epochs} epochs with the search's seed "
        "and evaluated on test images after the last epoch. Mean ± standard deviation over "
        f"{seeds} seed(s). Kendall's tau is between the accuracies of {ranked} architectures with "
        "the search net's weights and those of their own trainings."
    )
    conditions = f"torch {torch.__version__}, one thread"
    title = "Searches on cells"
    click.echo(
        write_results(results, title, called_as, text, *parts, PUBLISHED, conditions=conditions)
    )
    if out is not None:
        write_json(out, rows)


def evaluate(
    problem: Problem, methods: dict[str, str], seeds: int, folder: Path, latency: bool
) -> list[dict[str, Any]]:
    """Return a row for each method and seed."""
    plain = problem.spaces["none"]
    ranking = [
        train_child(
            problem, plain.architecture(Genotype(plain.name, choices)), 0, folder
        ).test_accuracy
        for choices in (ranked_architectures(problem) if problem.size.ranked else ())
    ]
    done: list[tuple[str, Search, Architecture, Child]] = []
    for seed in range(seeds):
        for title, name in methods.items():
            result = search(problem, name, seed, folder)
            space = problem.spaces[problem.norm_of(name)]
            network = space.architecture(Genotype(space.name, result.choices))
            done.append((title, result, network, train_child(problem, network, seed, folder)))
            click.echo(f"{problem.name}, {title}, seed {seed}: {done[-1][3]}", err=True)
    ms = measure_ms((network for _, _, network, _ in done), folder) if latency else {}
    return [
        {
            "data": problem.name,
            "method": title,
            "seed": result.seed,
            "accuracy": child.test_accuracy,
            "params": child.params,
            "cost_ms": result.cost_ms,
            "core_minutes": result.core_minutes,
            "skips": result.skips,
            "reduction_skips": result.reduction_skips,
            "tau": _tau(result.ranking, ranking),
            **{f"{target} ms": ms[target][network.digest] for target in TARGETS if target in ms},
        }
        for title, result, network, child in done
    ]


def _tau(searched: tuple[float, ...], trained: list[float]) -> float | None:
    """Return Kendall's rank correlation, or ``None`` where all values are equal."""
    if len(searched) < 2 or len({*searched}) < 2 or len({*trained}) < 2:
        return None
    result: Any = kendalltau(searched, trained)
    return float(result.statistic)


def _section(problem: Problem, rows: list[dict[str, Any]], seeds: int) -> str:
    timed = [f"{target} ms" for target in TARGETS if f"{target} ms" in rows[0]]
    columns = ["accuracy", "params", *timed, "core_minutes", "skips", "reduction_skips", "tau"]
    lines = [
        [title, *(_mean_and_std([row[name] for row in mine], name) for name in columns)]
        for title in METHODS
        if (mine := [row for row in rows if row["method"] == title])
    ]
    titles = [
        "method",
        "accuracy, %",
        "params",
        *(name.replace(" ms", ", ms") for name in timed),
        "core-minutes",
        "skips, normal",
        "skips, reduction",
        "tau",
    ]
    shape = "x".join(map(str, problem.dataset.input_shape))
    return (
        f"## {problem.name}\n\n{len(problem.train.labels)} training, {len(problem.valid.labels)} "
        f"validation, {len(problem.test.labels)} test images of {shape}; "
        f"{problem.size.layers} cells, {problem.size.channels} channels; budget "
        f"{problem.budget_ms:.4g} ms by the table.\n\n{table(titles, lines)}\n\n"
        + _differences(rows, seeds)
    )


def _mean_and_std(values: list[Any], name: str) -> str:
    known = [100 * value if name == "accuracy" else value for value in values if value is not None]
    if not known:
        return "-"
    digits = {"params": 0, "skips": 1, "reduction_skips": 1, "core_minutes": 1}.get(name, 2)
    spread = f" ± {stdev(known):.{digits}f}" if len(known) > 1 else ""
    return f"{fmean(known):,.{digits}f}{spread}"


def _differences(rows: list[dict[str, Any]], seeds: int) -> str:
    """Return for each method whether it differs from random search by more than the spread."""
    accuracies = {
        title: [100 * row["accuracy"] for row in rows if row["method"] == title]
        for title in METHODS
    }
    base = accuracies["random search"]
    if seeds < 2 or not base:
        return "One seed tells no spread: no difference here means anything."
    comparisons: list[str] = []
    for title, mine in accuracies.items():
        if mine and title != "random search":
            apart = fmean(mine) - fmean(base)
            spread = (stdev(mine) ** 2 + stdev(base) ** 2) ** 0.5
            verdict = "more" if abs(apart) > spread else "no more"
            comparisons.append(
                f"{title} {apart:+.2f} ± {spread:.2f} points ({verdict} than the spread)"
            )
    return f"Against random search: {'; '.join(comparisons)}."


if __name__ == "__main__":
    main()
