"""`hwnas latency`: latency tables of devices."""

from __future__ import annotations

from pathlib import Path

import click


@click.group("latency")
def latency() -> None:
    """Latency tables: measure."""


@latency.command("measure")
@click.option("--target", default="host-cpu", show_default=True, help="Device name or profile.")
@click.option("--space", default="mobile", show_default=True, help="Search space.")
@click.option(
    "--data", default="fashion-mnist-6k", show_default=True, help="Gives input and classes."
)
@click.option("--again", is_flag=True, help="Set the present table aside and measure anew.")
@click.option("--json", "as_json", is_flag=True, help="The table as one JSON document on stdout.")
@click.option("--quiet", is_flag=True, help="No progress.")
def measure(target: str, space: str, data: str, again: bool, as_json: bool, quiet: bool) -> None:
    """Measure every block of a space on a device, and some whole networks; fit a table.

    What was measured is kept in a journal: a measurement that was cut off goes on where it was.
    """
    from hwnas.datasets import load_dataset
    from hwnas.errors import DeviceError
    from hwnas.latency_models.store import card, measured_folder, set_aside
    from hwnas.pipeline.console import console
    from hwnas.pipeline.planning import load_space
    from hwnas.pipeline.target import find_target, table_of

    device = find_target(target)
    if device.runner is None:
        raise DeviceError(
            f"{device.profile.name}: transport {device.profile.transport!r} is not available in "
            "this version, nothing can be measured there"
        )
    dataset = load_dataset(data, input_shape=device.profile.default_input)
    searched = load_space(space, dataset.input_shape, dataset.num_classes)
    folder = measured_folder(device.profile.name, searched)
    if again:
        set_aside(folder)
    table = table_of(device, searched, console(quiet))
    if as_json:
        from hwnas.cli.tables import print_json

        print_json(table)
        return
    click.echo(card(table))
    click.echo(f"table: {Path(folder) / 'table.json'}")
