"""Do networks keep the budget, and what does the search gain, on this machine's two runtimes?

    python -m tools.evaluate.host.run budgets  --work DIR [--effort trial] [--seeds 3]
    python -m tools.evaluate.host.run cross    --work DIR
    python -m tools.evaluate.host.run widths   --work DIR [--width-mult 1,2,3]
    python -m tools.evaluate.host.run accuracy --work DIR [--data NAME] [--epochs 3] [--seeds 5]
    python -m tools.evaluate.host.run standard --work DIR [--epochs 3] [--seeds 5]

Each part continues where it was interrupted, prints its table and writes it to results/PART.md
(``--json OUT``: the rows as JSON, too). ``cross`` and ``accuracy`` use the networks of ``budgets``,
``accuracy --width-mult`` those of ``widths``, too.
"""

from __future__ import annotations

from pathlib import Path

import click
import msgspec

from hwnas.files import write_json
from tools.evaluate.host.groups import (
    FAMILIES,
    equal_latency_groups,
    measure,
    standard_groups,
)
from tools.evaluate.host.rows import Row, budget_row, cross_row
from tools.evaluate.host.runs import (
    delivered_network,
    delivered_networks,
    folder_of,
    specialize_report,
    variants_of,
)
from tools.evaluate.host.trainings import trained_groups
from tools.lib.options import json_option, seeds_option, work_option
from tools.lib.results import table_of, write_part

TARGETS = ("host-cpu", "host-cpu-litert")
TITLE = "Evaluation on one machine"
BUDGETS = ("35%", "50%", "70%")

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
                rows.append(budget_row(report, budget))
                click.echo(msgspec.json.encode(rows[-1]).decode(), err=True)
    within_budget = sum(row["verdict"] == "kept" for row in rows)
    well_used = sum(row["used"] >= 0.85 and row["verdict"] == "kept" for row in rows)  # type: ignore[operator]
    accurate = sum(abs(row["error"]) <= 0.10 for row in rows)  # type: ignore[arg-type]
    summary = (
        f"{within_budget} of {len(rows)} keep the budget, {well_used} of them use at least 85 % "
        f"of it; predicted within 10 % of measured in {accurate}."
    )
    click.echo(
        write_part(
            __file__,
            "budgets",
            TITLE,
            f"budgets --work DIR --effort {effort} --seeds {seeds}",
            summary,
            table_of(rows),
            figures=rows,
            out=out,
        )
    )


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
        rows.append(cross_row(target, nets, measured, reports))
    text = (
        "Budget of each run: the latency of the uniform MobileNetV2-like network on its runtime. "
        "`other / own`: latency on this runtime of the networks specialised for the other one over "
        "that of its own; paired rounds of one batch, geometric mean over seeds. Accuracy: test "
        "images, mean over seeds."
    )
    click.echo(
        write_part(
            __file__,
            "cross",
            TITLE,
            f"cross --work DIR --effort {effort} --seeds {seeds}",
            text,
            table_of(rows),
            figures=rows,
            out=out,
        )
    )


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
            rows.append(budget_row(report, budget) | {"of": each})
            click.echo(msgspec.json.encode(rows[-1]).decode(), err=True)
    options = f"--effort {effort} --seeds {seeds} --budget {budget} --width-mult {width_mult}"
    text = "`of`: the result of each width; validation accuracy chooses among them."
    click.echo(
        write_part(
            __file__,
            "widths",
            TITLE,
            f"widths --work DIR {options}",
            text,
            table_of(rows),
            figures=rows,
            out=out,
        )
    )


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

    The networks with their latencies and every finished training are stored in results/, so that
    the trainings can continue in another folder or on another machine.
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
        rows += trained_groups(work, target, f"{share} %", groups, data, epochs, seeds, workers)
    text = (
        f"{data}, epochs: {epochs}, {seeds} trainings per group, accuracy on the test images; "
        "latency measured interleaved. ±: standard deviation over trainings."
    )
    options = f"--data {data} --epochs {epochs} --seeds {seeds}"
    if width_mult:
        options += f" --width-mult {width_mult} --width-budget {width_budget}"
    click.echo(
        write_part(
            __file__,
            "accuracy",
            TITLE,
            f"accuracy --work DIR {options}",
            text,
            table_of(rows),
            figures=rows,
            out=out,
        )
    )


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
        rows = trained_groups(work, target, budget, groups, data, epochs, seeds, workers)
        options = f"--data {data} --epochs {epochs} --seeds {seeds} --target {target}"
        options += f" --width-mult {width_mult}" * bool(width_mult)
        options += "".join(f" --family '{family}'" for family in families)
        click.echo(
            write_part(
                __file__,
                f"standard_{target}",
                TITLE,
                f"standard --work DIR {options}",
                text,
                table_of(rows),
            )
        )
        every += rows
    if out is not None:
        write_json(out, every)


if __name__ == "__main__":
    cli()
