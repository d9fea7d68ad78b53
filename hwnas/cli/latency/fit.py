"""`hwnas latency fit`: a model from earlier measurements, and where it is worst."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from hwnas.cli.framework.command import command, json_option, option
from hwnas.cli.framework.params import FILE, PATH
from hwnas.cli.latency.options import data_option, resolution_option, space_option, target_option
from hwnas.cli.tables import print_json, print_table

if TYPE_CHECKING:
    from hwnas.latency_models.diagnostics import Diagnostics


@command(
    "fit",
    short_help="Fit a model to earlier measurements or a table.",
    example=(
        "hwnas latency fit --target host-cpu",
        "hwnas latency fit table.csv --device board --out board.json",
    ),
)
@click.argument("source", required=False, type=PATH)
@target_option
@space_option
@data_option
@resolution_option
@option("--device", metavar="NAME", group="Device", help="Device of the latencies in SOURCE.")
@option(
    "--out",
    group="Output",
    type=FILE,
    default_help="with SOURCE it is not written; else in hwnas's home",
    help="Write the model to this file.",
)
@json_option
def fit(
    source: Path | None,
    target: str,
    space: str,
    data: str,
    resolution: int | None,
    device: str | None,
    out: Path | None,
    as_json: bool,
) -> None:
    """Fit a model to SOURCE and print how accurate it is.

    SOURCE is a journal, the folder of one, or a table that `hwnas latency import` reads. Without
    it, fits the journal of --target and replaces its model.
    """
    from hwnas.latency_models.diagnostics import cross_validate
    from hwnas.latency_models.storage.card import card
    from hwnas.latency_models.storage.model_file import file_of, write_model
    from hwnas.latency_models.storage.store import write_measured
    from hwnas.profiling.setup import find_setup
    from hwnas.profiling.sources import fit_journal, fit_source

    folder = None
    if source is None:
        folder = find_setup(target, space, data, resolution=resolution).folder
        fitted = fit_journal(folder, device)
    else:
        fitted = fit_source(source, device)
    for note in fitted.notes:
        click.echo(f"note: {note}", err=True)
    model, diagnostics = cross_validate(fitted.model)
    if folder is not None:
        write_measured(model, folder)
    if out is not None:
        write_model(model, out)
    if as_json:
        print_json({"model": file_of(model), "cases": diagnostics})
        return
    click.echo(card(model))
    _print_diagnostics(diagnostics)
    written = out or (folder / "model.json" if folder else None)
    click.echo(f"model: {written}" if written else "not written: --out FILE writes the model")


def _print_diagnostics(diagnostics: Diagnostics) -> None:
    if diagnostics.networks:
        rows = [
            [f"{n.measured_ms:.4g}", f"{n.predicted_ms:.4g}", f"{n.error:+.1%}", n.mostly]
            for n in diagnostics.networks
        ]
        click.echo("networks with the largest errors, each predicted by a model fitted to others:")
        print_table(["measured, ms", "predicted, ms", "error", "mostly"], rows)
    if diagnostics.ops:
        rows = [
            [o.op, str(o.blocks), f"{o.typical_error:.1%}", f"{o.worst_error:+.1%}", o.worst]
            for o in diagnostics.ops
        ]
        click.echo("blocks, each predicted from all others without its own measurement:")
        print_table(["operation", "blocks", "typical error", "worst", "block"], rows)
