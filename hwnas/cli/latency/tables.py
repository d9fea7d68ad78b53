"""`hwnas latency import` and `adapt`: models from other people's tables, and from other devices."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

if TYPE_CHECKING:
    from hwnas.latency_models.model import LatencyModel

FEW = 3
"""Networks below which nothing is said of their intervals."""


@click.command("import")
@click.argument("file", type=click.Path(path_type=Path))
@click.option("--device", required=True, help="Name of the device that the table is of.")
@click.option(
    "--dialect", help="proxylessnas, ofa, nn-meter, csv or trtexec.  [default: by content]"
)
@click.option("--network", help="trtexec: the network that the log is of (file, run or name).")
@click.option(
    "--batch", type=click.IntRange(1), help="trtexec: inputs of a call, if the log doesn't say it."
)
@click.option("--resolution", type=int, help="Of several tables the one for this input, in pixels.")
@click.option("--out", type=click.Path(path_type=Path), help="Write the model to this file.")
@click.option("--force", is_flag=True, help="Overwrite a model of that name.")
@click.option("--json", "as_json", is_flag=True, help="The model as one JSON document.")
def import_(
    file: Path, device: str, dialect: str | None, network: str | None, batch: int | None,
    resolution: int | None, out: Path | None, force: bool, as_json: bool,
) -> None:  # fmt: skip
    """Make a latency model of a published table in FILE: its rows as they are.

    What trtexec printed is one network's latency: it is added to the device's observations, from
    which `hwnas latency adapt` makes a model. At a batch of 8, say, those of NAME-batch8.
    """
    from typing import cast

    from hwnas.errors import UnknownName, UsageError
    from hwnas.latency_models.fitting.fit import fit_model
    from hwnas.latency_models.importers import DIALECTS, Dialect, read_observations
    from hwnas.latency_models.importers.trtexec.log import is_trtexec
    from hwnas.latency_models.storage.registry import model_name
    from hwnas.profiling.sources import check_batch

    if dialect == "trtexec" or (dialect is None and is_trtexec(file)):
        from hwnas.cli.latency.trtexec import import_trtexec

        if force or resolution is not None:
            raise UsageError(
                f"{file} is trtexec's output: --force and --resolution are for tables of blocks"
            )
        import_trtexec(file, device, network, batch, out, as_json)
        return
    if network is not None or batch is not None:
        raise UsageError(f"--network and --batch are for trtexec's output, which {file} is not")
    if dialect is not None and dialect not in DIALECTS:
        raise UnknownName("dialect", dialect, (*DIALECTS, "trtexec"))
    path = _target(device, model_name(file.stem), out, force)
    found = read_observations(file, cast("Dialect | None", dialect), resolution)
    check_batch(file, found.batch, model_name(device))
    model = fit_model(
        device, found.observations, kind="table", source=f"{file.name} ({found.dialect})"
    )
    for note in found.notes:
        click.echo(f"note: {note}", err=True)
    _keep(model, path, as_json)


@click.command("adapt")
@click.option("--from", "source", required=True, help="Device, model name or model file.")
@click.option("--to", "device", required=True, help="Name of the new device.")
@click.option("--observations", type=click.Path(path_type=Path), help="What was measured there.")
@click.option("--networks", default=10, show_default=True, type=click.IntRange(3))
@click.option("--space", default="mobile", show_default=True)
@click.option("--data", default="fashion-mnist-6k", show_default=True)
@click.option("--out", type=click.Path(path_type=Path), help="Write the model to this file.")
@click.option("--force", is_flag=True, help="Overwrite a model of that name.")
@click.option("--json", "as_json", is_flag=True, help="The model as one JSON document.")
def adapt(
    source: str, device: str, observations: Path | None, networks: int, space: str, data: str,
    out: Path | None, force: bool, as_json: bool,
) -> None:  # fmt: skip
    """Make a model of a new device from another's and a few measurements.

    With --observations from a table of networks or blocks measured there (`key,ms` in CSV), else
    by measuring some networks on the device now.
    """
    from hwnas.errors import HwnasError
    from hwnas.latency_models.storage.registry import find_model, model_name
    from hwnas.profiling.adapt import (
        adapted_model,
        measure_adapted,
        outlook,
        outlook_of_own,
        outlook_words,
    )
    from hwnas.profiling.sources import observations_in

    path = _target(device, f"adapted-from-{model_name(Path(source).stem)}", out, force)
    _, origin = find_model(source)
    if observations is not None:
        seen, said, notes = observations_in(observations, model_name(device))
        for note in notes:
            click.echo(f"note: {note}", err=True)
        try:
            model = adapted_model(model_name(device), origin, seen, said)
        except HwnasError as error:
            raise HwnasError(f"{observations}: {error}") from None
        found = outlook_of_own(model) if len(model.networks) >= FEW else None
    else:
        from hwnas.cli.latency.fit import place_of, reachable
        from hwnas.console import console

        place = place_of(device, space, data)
        model = measure_adapted(
            origin, place.profile, reachable(place), place.space, place.folder, console(as_json),
            networks,
        )  # fmt: skip
        found = outlook(model, place.space)
    _keep(model, path, as_json)
    if not as_json and found is not None:
        click.echo(outlook_words(found))


def _target(device: str, stem: str, out: Path | None, force: bool) -> Path:
    from hwnas.errors import UsageError
    from hwnas.latency_models.storage.registry import model_name
    from hwnas.latency_models.storage.store import own_folder

    path = out or own_folder(model_name(device)) / f"{stem}.json"
    if path.exists() and not force:
        raise UsageError(f"{path} is there already: --force overwrites it, --out names another")
    return path


def _keep(model: LatencyModel, path: Path, as_json: bool) -> None:
    from hwnas.cli.tables import print_json
    from hwnas.latency_models.storage.card import card
    from hwnas.latency_models.storage.store import write_own

    write_own(model, path)
    if as_json:
        print_json(model)
        return
    click.echo(card(model))
    click.echo(f"model: {path}")
