"""`hwnas latency import` and `adapt`: models from published tables, and from other devices."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from hwnas.cli.framework.command import command, json_option, option
from hwnas.cli.framework.options import wait_idle_option
from hwnas.cli.framework.params import FILE, LATENCY_MODEL, NETWORK, PATH
from hwnas.cli.latency.options import (
    data_option,
    force_option,
    out_option,
    resolution_option,
    space_option,
)
from hwnas.cli.tables import print_json

if TYPE_CHECKING:
    from typing import Literal

    from hwnas.latency_models.importers import Dialect
    from hwnas.latency_models.model import LatencyModel

DIALECTS = ("proxylessnas", "ofa", "nn-meter", "csv", "trtexec")


@command(
    "import",
    short_help="Make a model of a published table.",
    example=(
        "hwnas latency import table.csv --device board",
        "hwnas latency import trtexec.log --device orin --network proxyless_mobile",
    ),
)
@click.argument("file", type=FILE)
@option("--device", group="Input", metavar="NAME", required=True, help="Device of the latencies.")
@option(
    "--dialect",
    group="Input",
    type=click.Choice(DIALECTS),
    default_help="by content",
    help="Format of FILE.",
)
@option(
    "--resolution",
    group="Input",
    type=int,
    metavar="PIXELS",
    help="Input size, where FILE has tables for several.",
)
@option("--network", group="trtexec", type=NETWORK, help="Network that was timed.")
@option(
    "--batch",
    group="trtexec",
    type=click.IntRange(1),
    default_help="the log's",
    help="Inputs of a call, if the log does not state them.",
)
@out_option
@force_option
@json_option
def import_(
    file: Path,
    device: str,
    dialect: Dialect | Literal["trtexec"] | None,
    resolution: int | None,
    network: str | None,
    batch: int | None,
    out: Path | None,
    force: bool,
    as_json: bool,
) -> None:
    """Make a latency model of a published table in FILE: its rows as they are.

    The log of trtexec is the latency of one network: it is added to the observations of the
    device, from which `hwnas latency adapt` makes a model. A log of batch 8 belongs to the device
    NAME-batch8.
    """
    from hwnas.errors import UsageError
    from hwnas.latency_models.importers.trtexec.log import is_trtexec
    from hwnas.latency_models.storage.registry import model_name
    from hwnas.profiling.sources import import_table

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
    path = _model_path(device, model_name(file.stem), out, force)
    imported = import_table(file, model_name(device), dialect, resolution)
    for note in imported.notes:
        click.echo(f"note: {note}", err=True)
    _write(imported.model, path, as_json)


@command(
    "adapt",
    short_help="Make a model of a new device from another device's.",
    example="hwnas latency adapt --from note10 --to host-cpu-litert",
)
@option(
    "--from",
    "source",
    group="Devices",
    type=LATENCY_MODEL,
    required=True,
    help="Model to adapt: a device, a model's name or its file.",
)
@option("--to", "device", group="Devices", metavar="NAME", required=True, help="New device.")
@option(
    "--observations",
    group="Measurement",
    type=PATH,
    help="Table or journal of latencies of the new device.",
)
@option(
    "--networks",
    group="Measurement",
    type=click.IntRange(3),
    default=10,
    help="Networks to measure, without --observations.",
)
@wait_idle_option
@space_option
@data_option
@resolution_option
@out_option
@force_option
@json_option
def adapt(
    source: str,
    device: str,
    observations: Path | None,
    networks: int,
    wait_idle_s: float,
    space: str,
    data: str,
    resolution: int | None,
    out: Path | None,
    force: bool,
    as_json: bool,
) -> None:
    """Make a model of a new device from another device's model and a few measurements.

    The measurements are read from --observations (networks or blocks, such as `key,ms` in CSV), or
    else some networks are measured on the device now.
    """
    from hwnas.console import console
    from hwnas.latency_models.storage.registry import find_model, model_name
    from hwnas.profiling.adapt import adapt_to_file, measure_adapted, outlook, outlook_sentence
    from hwnas.profiling.setup import find_setup

    path = _model_path(device, f"adapted-from-{model_name(Path(source).stem)}", out, force)
    _, origin = find_model(source)
    if observations is not None:
        model, notes = adapt_to_file(origin, observations, model_name(device))
        for note in notes:
            click.echo(f"note: {note}", err=True)
        expected = outlook(model)
    else:
        setup = find_setup(device, space, data, wait_idle_s=wait_idle_s, resolution=resolution)
        with setup.open_runner() as runner:
            model = measure_adapted(origin, setup, runner, console(as_json), count=networks)
        expected = outlook(model, setup.space)
    _write(model, path, as_json)
    if not as_json and expected is not None:
        click.echo(outlook_sentence(expected))


def _model_path(device: str, stem: str, out: Path | None, force: bool) -> Path:
    from hwnas.errors import UsageError
    from hwnas.latency_models.storage.registry import model_name
    from hwnas.latency_models.storage.store import own_folder

    path = out or own_folder(model_name(device)) / f"{stem}.json"
    if path.exists() and not force:
        raise UsageError(f"{path} exists already: --force overwrites it, --out names another file")
    return path


def _write(model: LatencyModel, path: Path, as_json: bool) -> None:
    from hwnas.latency_models.storage.card import card
    from hwnas.latency_models.storage.model_file import file_of
    from hwnas.latency_models.storage.store import write_own

    write_own(model, path)
    if as_json:
        print_json(file_of(model))
        return
    click.echo(card(model))
    click.echo(f"model: {path}")
