"""`hwnas show`: an architecture, block by block."""

from __future__ import annotations

from pathlib import Path

import click

from hwnas.errors import UsageError


@click.command("show")
@click.argument("architecture", type=click.Path(path_type=Path))
@click.option("--json", "as_json", is_flag=True, help="One JSON document on stdout.")
def show(architecture: Path, as_json: bool) -> None:
    """Show an ARCHITECTURE (a JSON file, or a run folder: what the run found)."""
    from hwnas.cli.tables import print_json, print_table
    from hwnas.networks.resolve import read_architecture

    path = architecture / "search" / "architecture.json" if architecture.is_dir() else architecture
    if not path.exists():
        raise UsageError(f"{path}: no such file; expected an architecture's JSON or a run folder")
    found = read_architecture(path)
    if as_json:
        print_json(
            {
                "name": found.digest,
                "params": found.params,
                "macs": found.macs,
                "input_shape": found.input_shape,
                "blocks": found.blocks,
            }
        )
        return
    rows = [
        [str(place), block.key, f"{block.params:,}", f"{block.macs:,}"]
        for place, block in enumerate(found.blocks)
    ]
    print_table(["", "block", "params", "MACs"], rows)
    click.echo(f"{found.digest}: {found.params:,} params, {found.macs:,} MACs")
