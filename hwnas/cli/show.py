"""`hwnas show`: an architecture, block by block."""

from __future__ import annotations

import click

from hwnas.cli.framework.command import command, json_option


@command("show", example=("hwnas show runs/host-cpu", "hwnas show proxyless_mobile"))
@click.argument("architecture")
@json_option
def show(architecture: str, as_json: bool) -> None:
    """Show the blocks of ARCHITECTURE: a published name, a run folder, or a file.

    Files are an architecture's JSON, or an ONNX or TFLite file that hwnas wrote.
    """
    from hwnas.api import load_architecture
    from hwnas.cli.tables import print_json, print_table

    network = load_architecture(architecture)
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
