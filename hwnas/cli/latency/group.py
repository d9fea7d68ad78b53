"""`hwnas latency`: latency models of devices; `measure` makes one, its siblings use it."""

from __future__ import annotations

import click

from hwnas.cli.latency.check import check
from hwnas.cli.latency.fit import fit
from hwnas.cli.latency.predict import predict
from hwnas.cli.latency.tables import adapt, import_

PRECISION = click.Choice(["fp32", "int8"])


@click.group("latency")
def latency() -> None:
    """Latency models: measure, fit, check, predict, import, adapt."""


@latency.command("measure")
@click.option("--target", default="host-cpu", show_default=True, help="Device name or profile.")
@click.option("--space", default="mobile", show_default=True, help="Search space.")
@click.option(
    "--data", default="fashion-mnist-6k", show_default=True, help="Gives input and classes."
)
@click.option("--precision", default="fp32", show_default=True, type=PRECISION)
@click.option(
    "--networks",
    type=click.IntRange(0),
    help="Whole ones, at most.  [default: 24; with --minutes as many as there is time for]",
)
@click.option(
    "--interval",
    default="3%",
    show_default=True,
    help="Stop when the 90 % interval is within +- this share.",
)
@click.option(
    "--minutes",
    type=click.FloatRange(0, min_open=True),
    help="Stop after so many; what tells most is measured first.  [default: no limit]",
)
@click.option(
    "--profile",
    "profiled",
    default=0,
    show_default=True,
    type=click.IntRange(0),
    help="Networks whose blocks are timed by the runtime's profiler, too.",
)
@click.option("--again", is_flag=True, help="Set the present model aside and measure anew.")
@click.option("--json", "as_json", is_flag=True, help="The model as one JSON document on stdout.")
@click.option("--quiet", is_flag=True, help="No progress.")
def measure(
    target: str, space: str, data: str, precision: str, networks: int | None, interval: str,
    minutes: float | None, profiled: int, again: bool, as_json: bool, quiet: bool,
) -> None:  # fmt: skip
    """Measure every block of a space on a device, and some whole networks; fit a model.

    What was measured is kept in a journal: a measurement that was cut off, or had no time left,
    goes on where it was.
    """
    from hwnas.cli.latency.fit import place_of, reachable, share_of
    from hwnas.console import console
    from hwnas.errors import UsageError
    from hwnas.latency_models.storage.card import card
    from hwnas.latency_models.storage.journal import JOURNAL
    from hwnas.latency_models.storage.store import set_aside
    from hwnas.profiling.measure import latency_model
    from hwnas.profiling.sources import whole_entries

    goal = share_of("--interval", interval)
    place = place_of(target, space, data, precision)
    where = "a GPU" if place.profile.gpu else place.profile.runner or place.profile.transport
    if profiled and (where != "local" or precision != "fp32"):
        raise UsageError(
            f"--profile {profiled}: the runtime's profiler is read of fp32 networks on this "
            f"machine's processor only, {target} is {where}, {precision}"
        )
    runner = reachable(place)
    if again:
        set_aside(place.folder)
    shown = console(quiet)
    with shown.step(f"latency model of {place.profile.name}") as update:
        model = latency_model(
            place.profile, runner, place.space, place.folder, shown.say,
            lambda done, planned: update(done, planned, f"{done} of {planned} models"),
            networks=networks, goal=goal, profiled=profiled, minutes=minutes,
        )  # fmt: skip
    journal = place.folder / JOURNAL
    for note in whole_entries(journal)[1] if journal.is_file() else ():
        click.echo(f"note: {note}", err=True)
    if as_json:
        from hwnas.cli.tables import print_json

        print_json(model)
        return
    click.echo(card(model))
    click.echo(f"model: {place.folder / 'model.json'}")
    click.echo(f"next: hwnas latency check --target {target}")


for command in (fit, check, predict, import_, adapt):
    latency.add_command(command)
