"""`hwnas show`: an architecture, block by block."""

from __future__ import annotations

from pathlib import Path

import click

from hwnas.cli.framework.command import command, json_option
from hwnas.errors import UsageError


@command("show", example="hwnas show runs/host-cpu")
@click.argument("architecture", type=click.Path(path_type=Path))
@json_option
def show(architecture: Path, as_json: bool) -> None:
    """Show the blocks of ARCHITECTURE: its JSON file, or a run folder."""
    from hwnas.cli.tables import print_json, print_table
    from hwnas.networks.resolve import read_architecture

    path = architecture / "search" / "architecture.json" if architecture.is_dir() else architecture
    if not path.exists():
        raise UsageError(f"{path}: no such file; expected an architecture's JSON or a run folder")
    network = read_architecture(path)
    if as_json:
        print_json(
            {
                "name": network.digest,
                "params": network.params,
                "macs": network.macs,
                "input_shape": network.input_shape,
                "blocks": network.blocks,
            }
        )
        return
    rows = [
        [str(place), block.key, f"{block.params:,}", f"{block.macs:,}"]
        for place, block in enumerate(network.blocks)
    ]
    print_table(["", "block", "params", "MACs"], rows)
    click.echo(f"{network.digest}: {network.params:,} params, {network.macs:,} MACs")
