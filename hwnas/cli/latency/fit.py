"""`hwnas latency fit`: a model from what was measured, and where it is worst."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import click

if TYPE_CHECKING:
    from hwnas.devices.profile import DeviceProfile
    from hwnas.devices.runner import Runner
    from hwnas.spaces.space import SearchSpace


class Place(NamedTuple):
    """A device and a space, and where its measurements are."""

    profile: DeviceProfile
    runner: Runner | None
    space: SearchSpace
    folder: Path


def place_of(target: str, space: str, data: str, precision: str = "fp32") -> Place:
    """Find device, data and space by name."""
    from hwnas.data.datasets import load_dataset
    from hwnas.devices.limits import check_precision
    from hwnas.latency_models.storage.store import measured_folder
    from hwnas.specialize.setup.plan import load_space
    from hwnas.specialize.setup.target import find_target

    device = find_target(target)
    check_precision(precision, device.profile)
    dataset = load_dataset(data, input_shape=device.profile.default_input)
    searched = load_space(space, dataset.input_shape, dataset.num_classes, precision)
    folder = measured_folder(device.profile.name, searched)
    return Place(device.profile, device.runner, searched, folder)


def reachable(place: Place) -> Runner:
    """Return the way to the device. Raises `DeviceError` where there is none."""
    from hwnas.errors import DeviceError

    if place.runner is None:
        raise DeviceError(
            f"{place.profile.name}: its profile says no way to it (no [remote] table), so nothing "
            "can be measured there"
        )
    return place.runner


def share_of(option: str, text: str) -> float:
    """Return ``5%`` as 0.05."""
    from hwnas.errors import UsageError

    try:
        share = float(text.strip().removesuffix("%")) / 100
    except ValueError:
        share = 0.0
    if not text.strip().endswith("%") or not 0 < share < 1:
        raise UsageError(f"{option} {text!r}: expected a share between 0% and 100%, like 5%")
    return share


@click.command("fit")
@click.argument("source", required=False, type=click.Path(path_type=Path))
@click.option(
    "--target", default="host-cpu", show_default=True, help="Whose journal, without SOURCE."
)
@click.option("--space", default="mobile", show_default=True)
@click.option("--data", default="fashion-mnist-6k", show_default=True)
@click.option("--device", help="Name of the device that SOURCE is of.")
@click.option("--out", type=click.Path(path_type=Path), help="Write the model to this file.")
@click.option("--json", "as_json", is_flag=True, help="One JSON document on stdout.")
def fit(
    source: Path | None, target: str, space: str, data: str, device: str | None, out: Path | None,
    as_json: bool,
) -> None:  # fmt: skip
    """Fit a model to SOURCE and say how wrong it is.

    SOURCE is a journal, the folder of one, or a table that `hwnas latency import` reads; without
    it the journal of --target, whose model is written anew.
    """
    from hwnas.cli.tables import print_json, print_table
    from hwnas.files import write_json
    from hwnas.latency_models.diagnostics import validated
    from hwnas.latency_models.storage.card import card
    from hwnas.latency_models.storage.journal import JOURNAL
    from hwnas.latency_models.storage.store import write_measured
    from hwnas.profiling.sources import fit_source

    folder = None if source is not None else place_of(target, space, data).folder
    found = fit_source(source or (folder or Path()) / JOURNAL, device)
    for note in found.notes:
        click.echo(f"note: {note}", err=True)
    model, cases = validated(found.model)
    if folder is not None:
        write_measured(model, folder)
    if out is not None:
        write_json(out, model)
    if as_json:
        print_json({"model": model, "cases": cases})
        return
    click.echo(card(model))
    if cases.networks:
        rows = [
            [f"{n.measured_ms:.4g}", f"{n.predicted_ms:.4g}", f"{n.error:+.1%}", n.mostly]
            for n in cases.networks
        ]
        click.echo("worst networks, each predicted by a model of the others:")
        print_table(["measured, ms", "predicted, ms", "error", "mostly"], rows)
    if cases.ops:
        rows = [
            [o.op, str(o.blocks), f"{o.typical_error:.1%}", f"{o.worst_error:+.1%}", o.worst]
            for o in cases.ops
        ]
        click.echo("blocks, each predicted from all others (as if it had not been timed):")
        print_table(["operation", "blocks", "typical error", "worst", "block"], rows)
    written = out or (folder / "model.json" if folder else None)
    click.echo(f"model: {written}" if written else "not written: --out FILE keeps the model")
