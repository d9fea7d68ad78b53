"""`hwnas latency measure`: measure the latency model of a device for a search space."""

from __future__ import annotations

import click

from hwnas.cli.framework.command import command, json_option, option, quiet_option
from hwnas.cli.framework.options import wait_idle_option
from hwnas.cli.framework.params import FRACTION, Number
from hwnas.cli.latency.options import (
    data_option,
    precision_option,
    resolution_option,
    space_option,
    target_option,
)


@command(
    "measure",
    continued_by="",
    short_help="Measure the latency model of a device.",
    example=(
        "hwnas latency measure --target host-cpu",
        "hwnas latency measure --target host-cpu --minutes 10",
    ),
)
@target_option
@space_option
@data_option
@resolution_option
@precision_option
@option(
    "--networks",
    group="Measurement",
    type=click.IntRange(0),
    default_help="24; with --minutes as many as time permits",
    help="Maximum number of whole networks to measure.",
)
@option(
    "--interval",
    "goal",
    group="Measurement",
    type=FRACTION,
    default="3%",
    help="Stop when the 90 % interval is within plus or minus this share.",
)
@option(
    "--minutes",
    group="Measurement",
    type=Number(0, min_open=True),
    metavar="MINUTES",
    default_help="no limit",
    help="Measure for at most this time, the most informative models first; "
    "repeat the command to continue.",
)
@option(
    "--profile",
    "profiled",
    group="Measurement",
    type=click.IntRange(0),
    default=0,
    help="Number of networks whose blocks the runtime's profiler times, too.",
)
@option(
    "--again",
    group="Measurement",
    is_flag=True,
    help="Set the existing model aside and measure anew.",
)
@wait_idle_option
@json_option
@quiet_option
def measure(
    target: str,
    space: str,
    data: str,
    resolution: int | None,
    precision: str,
    wait_idle_s: float,
    as_json: bool,
    quiet: bool,
    **settings: object,
) -> None:
    """Measure every block of a search space on a device, and some whole networks; fit a model.

    Measurements are kept in a journal: an interrupted command, or one that ran out of time,
    continues where it stopped.
    """
    import msgspec

    from hwnas.cli.tables import print_json
    from hwnas.console import console
    from hwnas.latency_models.storage.card import card
    from hwnas.latency_models.storage.model_file import file_of
    from hwnas.profiling.measure import measure_latency_model
    from hwnas.profiling.plan import MeasurePlan
    from hwnas.profiling.setup import find_setup
    from hwnas.profiling.sources import journal_notes

    plan = msgspec.convert(settings, MeasurePlan)
    setup = find_setup(target, space, data, precision, wait_idle_s, resolution)
    with setup.open_runner() as runner:
        model = measure_latency_model(
            setup.profile, runner, setup.space, setup.folder, console(quiet), plan=plan
        )
    for note in () if quiet else journal_notes(setup.folder):
        click.echo(f"note: {note}", err=True)
    if as_json:
        print_json(file_of(model))
        return
    click.echo(card(model))
    click.echo(f"model: {setup.folder / 'model.json'}")
    if not quiet:
        click.echo(f"next: {setup.check_command}")
