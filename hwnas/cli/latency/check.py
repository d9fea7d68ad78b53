"""`hwnas latency check`: does the latency model still hold on this device?"""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

import click

from hwnas.cli.framework.command import command, json_option, option, quiet_option
from hwnas.cli.framework.options import wait_idle_option
from hwnas.cli.latency.options import (
    data_option,
    precision_option,
    resolution_option,
    space_option,
    target_option,
)
from hwnas.cli.tables import print_json, print_table

if TYPE_CHECKING:
    from hwnas.profiling.check import ModelCheck


@command(
    "check",
    short_help="Compare a model with new measurements.",
    example="hwnas latency check --target host-cpu",
)
@target_option
@space_option
@data_option
@resolution_option
@precision_option
@option("--seed", group="Measurement", default=0, help="Random seed of the networks.")
@option(
    "--add",
    group="Measurement",
    is_flag=True,
    help="Fit the model again with the measured networks.",
)
@wait_idle_option
@json_option
@quiet_option
def check(
    target: str,
    space: str,
    data: str,
    resolution: int | None,
    precision: str,
    seed: int,
    add: bool,
    wait_idle_s: float,
    as_json: bool,
    quiet: bool,
) -> None:
    """Measure ten new networks and compare them with the model's predictions.

    The exit code is 0 if the model holds (perhaps with one common factor), 1 if it does not.
    """
    from hwnas.console import console
    from hwnas.profiling.check import add_to_model, check_model, model_to_check
    from hwnas.profiling.setup import find_setup

    setup = find_setup(target, space, data, precision, wait_idle_s, resolution)
    with setup.open_runner() as runner:
        model = model_to_check(setup, measured_only=add)
        result = check_model(model, setup, runner, console(quiet), seed=seed)
    if add:
        add_to_model(model, result, setup.folder)
    if as_json:
        print_json(result.to_dict())
    else:
        _print(result, f"{setup.measure_command} --again")
        if add:
            click.echo("the networks were added to the model")
    if result.comparison.verdict == "does not hold":
        sys.exit(1)


def _print(result: ModelCheck, measure_again: str) -> None:
    comparison = result.comparison
    rows = [
        [
            f"{network.predicted_ms:.4g}",
            f"{network.interval_ms[0]:.4g} to {network.interval_ms[1]:.4g}",
            f"{network.measured_ms:.4g}",
            f"{network.measured_ms / network.predicted_ms - 1:+.1%}",
            "yes" if network.inside else "no",
        ]
        for network in comparison.networks
    ]
    titles = ["predicted, ms", "90 % interval, ms", "measured, ms", "difference", "inside"]
    print_table(titles, rows)
    low, high = comparison.factor_ci95
    click.echo(
        f"{comparison.inside} of {len(comparison.networks)} inside the 90 % interval; "
        f"measured / predicted {comparison.factor:.3f} (95 % {low:.3f} to {high:.3f}); the "
        f"reference model's latency has changed by {result.drift:+.0%} since its calibration"
    )
    for note in result.notes:
        click.echo(f"note: {note}")
    verdicts = {
        "holds": "the model holds",
        "holds with a factor": f"the model holds with a common factor of {comparison.factor:.3f}; "
        "`--add` fits it",
        "does not hold": f"the model does not hold: `{measure_again}` makes a new one",
    }
    click.echo(verdicts[comparison.verdict])
    click.echo(f"measurements: {result.journal}")
