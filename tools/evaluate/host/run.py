"""Do networks keep the budget, and what does the search gain, on this machine's two runtimes?

    python -m tools.evaluate.host.run budgets  --work DIR [--effort trial] [--seeds 3]
    python -m tools.evaluate.host.run cross    --work DIR
    python -m tools.evaluate.host.run widths   --work DIR [--width-mult 1,2,3]
    python -m tools.evaluate.host.run accuracy --work DIR [--data NAME] [--epochs 3] [--seeds 5]
    python -m tools.evaluate.host.run standard --work DIR [--epochs 3] [--seeds 5]

Each part goes on where it was interrupted, prints its table and writes it to results/PART.md
(``--json OUT``: the rows as JSON, too). ``cross`` and ``accuracy`` use the networks of ``budgets``,
``accuracy --width-mult`` those of ``widths``, too.
"""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from statistics import fmean, stdev

import click
import msgspec
import numpy as np

from hwnas.architecture.architecture import Architecture
from hwnas.files import write_json
from hwnas.measurement.measurement import Measurement, compare
from hwnas.report.report import Report
from tools.evaluate.host.groups import (
    FAMILIES,
    RESULTS,
    Member,
    equal_latency_groups,
    measure,
    standard_groups,
)
from tools.evaluate.host.runs import (
    delivered_network,
    delivered_networks,
    folder_of,
    specialize_report,
    variants_of,
)
from tools.evaluate.host.trainings import train_and_test
from tools.lib.options import json_option, seeds_option, work_option
from tools.lib.results import command, table_of, write_results

TARGETS = ("host-cpu", "host-cpu-litert")
BUDGETS = ("35%", "50%", "70%")
Row = dict[str, object]

targets_option = click.option(
    "--target", "targets", multiple=True, default=TARGETS, show_default=True
)
effort_option = click.option("--effort", default="trial", show_default=True)
dataset_option = click.option("--data", default="fashion-mnist", show_default=True)
epochs_option = click.option("--epochs", default=3, show_default=True, help="Of each training.")
workers_option = click.option("--workers", default=2, show_default=True)


@click.group()
def cli() -> None:
    """Evaluate on this machine."""


@cli.command()
@work_option
@effort_option
@seeds_option(3)
@targets_option
@json_option
def budgets(
    work: Path, effort: str, seeds: int, targets: tuple[str, ...], out: Path | None
) -> None:
    """Specialise for 35, 50 and 70 % of the largest network on both runtimes."""
    rows: list[Row] = []
    for target in targets:
        for budget in BUDGETS:
            for seed in range(seeds):
                report = specialize_report(work, target, budget, seed, effort)
                rows.append(_budget_row(report, budget))
                click.echo(msgspec.json.encode(rows[-1]).decode(), err=True)
    within_budget = sum(row["verdict"] == "kept" for row in rows)
    well_used = sum(row["used"] >= 0.85 and row["verdict"] == "kept" for row in rows)  # type: ignore[operator]
    accurate = sum(abs(row["error"]) <= 0.10 for row in rows)  # type: ignore[arg-type]
    summary = (
        f"{within_budget} of {len(rows)} keep the budget, {well_used} of them use at least 85 % "
        f"of it; predicted within 10 % of measured in {accurate}."
    )
    _write("budgets", rows, summary, f"--effort {effort} --seeds {seeds}", out)


@cli.command()
@work_option
@effort_option
@seeds_option(3)
@json_option
def cross(work: Path, effort: str, seeds: int, out: Path | None) -> None:
    """Specialise for each runtime at the default budget; measure all on both, interleaved."""
    reports = {
        (target, seed): specialize_report(work, target, "", seed, effort)
        for target in TARGETS
        for seed in range(seeds)
    }
    nets = {
        (target, seed): delivered_network(folder_of(work, target, "", seed, effort=effort))
        for target, seed in reports
    }
    rows: list[Row] = []
    for target in TARGETS:
        measured = measure(target, list(nets.values()), work / "cross" / target)
        rows.append(_cross_row(target, nets, measured, reports))
    text = (
        "Budget of each run: the latency of the uniform MobileNetV2-like network on its runtime. "
        "`other / own`: latency on this runtime of the networks specialised for the other one over "
        "that of its own; paired rounds of one batch, geometric mean over seeds. Accuracy: test "
        "images, mean over seeds."
    )
    _write("cross", rows, text, f"--effort {effort} --seeds {seeds}", out)


@cli.command()
@work_option
@effort_option
@seeds_option(3)
@click.option("--budget", default="50%", show_default=True)
@click.option("--width-mult", default="1,2,3", show_default=True)
@targets_option
@json_option
def widths(
    work: Path,
    effort: str,
    seeds: int,
    budget: str,
    width_mult: str,
    targets: tuple[str, ...],
    out: Path | None,
) -> None:
    """Specialise with several width multipliers and compare the variants."""
    rows: list[Row] = []
    for target in targets:
        for seed in range(seeds):
            report = specialize_report(work, target, budget, seed, effort, width_mult)
            variants = variants_of(folder_of(work, target, budget, seed, width_mult, effort))
            each = "; ".join(variant.summary for variant in variants)
            rows.append(_budget_row(report, budget) | {"of": each})
            click.echo(msgspec.json.encode(rows[-1]).decode(), err=True)
    options = f"--effort {effort} --seeds {seeds} --budget {budget} --width-mult {width_mult}"
    text = "`of`: the result of each width; validation accuracy chooses among them."
    _write("widths", rows, text, options, out)


@cli.command()
@work_option
@dataset_option
@epochs_option
@seeds_option(5)
@click.option(
    "--share", default=50, show_default=True, help="Budget in percent of the largest network."
)
@targets_option
@click.option(
    "--width-mult", default="", help="Add the networks of `widths` with these multipliers."
)
@click.option("--width-budget", default="50%", show_default=True, help="Their budget.")
@workers_option
@json_option
def accuracy(
    work: Path,
    data: str,
    epochs: int,
    seeds: int,
    share: int,
    targets: tuple[str, ...],
    width_mult: str,
    width_budget: str,
    workers: int,
    out: Path | None,
) -> None:
    """Train searched, uniform and random networks of equal measured latency in the same way.

    The networks with their latencies and every finished training are stored in results/, so
    that the trainings can go on in another folder or on another machine.
    """
    rows: list[Row] = []
    for target in targets:
        wide = delivered_networks(work, target, width_budget, width_mult) if width_mult else []
        if width_mult and not wide:
            click.echo(
                f"{target}: no run of `widths --width-mult {width_mult}` at {width_budget}",
                err=True,
            )
        more = {f"searched, --width-mult {width_mult}": wide} if wide else {}
        groups = equal_latency_groups(work, target, share, seeds, more)
        rows += _trained_groups(work, target, f"{share} %", groups, data, epochs, seeds, workers)
    text = (
        f"{data}, epochs: {epochs}, {seeds} trainings per group, accuracy on the test images; "
        "latency measured interleaved. ±: standard deviation over trainings."
    )
    options = f"--data {data} --epochs {epochs} --seeds {seeds}"
    if width_mult:
        options += f" --width-mult {width_mult} --width-budget {width_budget}"
    _write("accuracy", rows, text, options, out)


@cli.command()
@work_option
@dataset_option
@epochs_option
@seeds_option(5)
@targets_option
@click.option(
    "--family",
    "families",
    multiple=True,
    default=[family.name for family in FAMILIES],
    show_default=True,
    type=click.Choice([family.name for family in FAMILIES]),
    help="Family of uniform networks.",
)
@click.option("--width-mult", default="", help="Width multiplier of the search.")
@workers_option
@json_option
def standard(
    work: Path,
    data: str,
    epochs: int,
    seeds: int,
    targets: tuple[str, ...],
    width_mult: str,
    families: tuple[str, ...],
    workers: int,
    out: Path | None,
) -> None:
    """Train the network of `--effort standard`, uniform and random ones in the same way."""
    text = (
        f"{data}, `searched`: the network that `hwnas specialize --effort standard` delivered at "
        f"its default budget (the latency of the uniform MobileNetV2-like network); all trained "
        f"{epochs} epochs, {seeds} trainings per group, accuracy on the test images; latency "
        "measured interleaved. ±: standard deviation over trainings."
    )
    every: list[Row] = []
    for target in targets:
        report = specialize_report(work, target, "", 0, "standard", width_mult, data)
        searched = delivered_network(folder_of(work, target, "", 0, width_mult, "standard"))
        budget_ms = report.results[0].budget_ms
        assert budget_ms is not None
        groups = standard_groups(work, target, budget_ms, seeds, searched, width_mult, families)
        budget = f"{budget_ms:.4f} ms"
        rows = _trained_groups(work, target, budget, groups, data, epochs, seeds, workers)
        options = f"--data {data} --epochs {epochs} --seeds {seeds} --target {target}"
        options += f" --width-mult {width_mult}" * bool(width_mult)
        options += "".join(f" --family '{family}'" for family in families)
        _write("standard", rows, text, options, None, f"_{target}")
        every += rows
    if out is not None:
        write_json(out, every)


def _trained_groups(
    work: Path,
    target: str,
    budget: str,
    groups: dict[str, list[Member]],
    data: str,
    epochs: int,
    seeds: int,
    workers: int,
) -> list[Row]:
    jobs = [
        (name, nets[seed % len(nets)], seed)
        for seed in range(seeds)
        for name, nets in groups.items()
    ]

    def accuracy_of(job: tuple[str, Member, int]) -> float:
        _, member, seed = job
        return train_and_test(work, member.architecture, data, epochs, seed)

    with ThreadPoolExecutor(workers) as pool:
        accuracies = list(pool.map(accuracy_of, jobs))
    return [_group_row(target, budget, name, jobs, accuracies) for name in groups]


def _budget_row(report: Report, budget: str) -> Row:
    result = report.results[0]
    latency, budget_ms = result.latency, result.budget_ms
    assert latency is not None and budget_ms is not None and result.accuracy is not None
    predicted_ms = latency.predicted_ms or 0.0
    return {
        "target": result.target,
        "budget": budget.replace("%", " %"),
        "seed": report.seed,
        "budget_ms": round(budget_ms, 4),
        "measured_ms": round(latency.median_ms, 4),
        "predicted_ms": round(predicted_ms, 4),
        "used": round(latency.median_ms / budget_ms, 3),
        "error": round(predicted_ms / latency.median_ms - 1, 3),
        "verdict": result.verdict,
        "rounds": result.rounds,
        "drift": round(latency.reference_drift or 0.0, 3),
        "k7": sum(block.kernel_size == 7 for block in result.architecture.blocks),
        "test_accuracy": round(result.accuracy.artifact or 0.0, 3),
        "minutes": round(sum(report.stages_s.values()) / 60, 1),
    }


def _cross_row(
    target: str,
    nets: dict[tuple[str, int], Architecture],
    measured: dict[str, Measurement],
    reports: dict[tuple[str, int], Report],
) -> Row:
    other = next(name for name in TARGETS if name != target)
    seeds = sorted({seed for _, seed in nets})
    own = [measured[nets[target, seed].digest] for seed in seeds]
    foreign = [measured[nets[other, seed].digest] for seed in seeds]
    ratios = [compare(a, b).ratio for a, b in zip(foreign, own, strict=True)]
    return {
        "measured on": target,
        "own_ms": round(fmean(measurement.median_ms for measurement in own), 4),
        "other's_ms": round(fmean(measurement.median_ms for measurement in foreign), 4),
        "other / own": round(float(np.exp(np.mean(np.log(ratios)))), 2),
        "each": ", ".join(f"{ratio:.2f}" for ratio in ratios),
        "own accuracy": round(fmean(_accuracy(reports[target, seed]) for seed in seeds), 3),
        "other's accuracy": round(fmean(_accuracy(reports[other, seed]) for seed in seeds), 3),
        "7x7 in own": sum(_count_7x7(nets[target, seed]) for seed in seeds),
        "7x7 in other's": sum(_count_7x7(nets[other, seed]) for seed in seeds),
    }


def _accuracy(report: Report) -> float:
    result = report.results[0].accuracy
    return 0.0 if result is None else result.artifact or result.torch


def _count_7x7(architecture: Architecture) -> int:
    return sum(block.kernel_size == 7 for block in architecture.blocks)


def _group_row(
    target: str,
    budget: str,
    name: str,
    jobs: list[tuple[str, Member, int]],
    accuracies: list[float],
) -> Row:
    mine = [number for number, job in enumerate(jobs) if job[0] == name]
    scores = [100 * accuracies[number] for number in mine]
    nets = {jobs[number][1].architecture.digest: jobs[number][1] for number in mine}.values()
    return {
        "target": target,
        "budget": budget,
        "group": name,
        "networks": len(nets),
        "ms": round(fmean(member.median_ms for member in nets), 4),
        "test accuracy %": f"{fmean(scores):.2f} ± {stdev(scores) if len(scores) > 1 else 0:.2f}",
        "each": ", ".join(f"{score:.2f}" for score in scores),
        "M MACs": round(fmean(member.architecture.macs for member in nets) / 1e6, 2),
    }


def _write(
    part: str, rows: list[Row], text: str, options: str, out: Path | None, suffix: str = ""
) -> None:
    called_as = command(__file__, part, "--work DIR", options)
    path, title = RESULTS / f"{part}{suffix}.md", f"Evaluation on one machine: {part}"
    click.echo(write_results(path, title, called_as, text, table_of(rows)))
    if out is not None:
        write_json(out, rows)


if __name__ == "__main__":
    cli()
