"""`hwnas show`: an architecture, block by block."""

from __future__ import annotations

import click

from hwnas.cli.framework.command import command, json_option
from hwnas.cli.framework.options import genotype_data_option, image_shape_option
from hwnas.cli.framework.params import NETWORK


@command("show", example=("hwnas show runs/host-cpu", "hwnas show proxyless_mobile"))
@click.argument("network", type=NETWORK)
@image_shape_option
@genotype_data_option
@json_option
def show(network: str, input_shape: tuple[int, int, int] | None, data: str, as_json: bool) -> None:
    """Show the blocks of NETWORK.

    NETWORK is a published name, timm:NAME, the folder of a run or training, a JSON file of an
    architecture or genotype, a file of weights, an ONNX or TFLite file that hwnas wrote, or
    module:factory, a function of your own that returns a torch.nn.Module. What --json prints is an
    architecture, which every command takes.
    """
    from hwnas.cli.tables import print_json, print_table
    from hwnas.data.datasets import load_dataset
    from hwnas.networks.resolve import is_genotype, resolve_architecture

    shape, classes, note = input_shape, None, ""
    if is_genotype(network):
        dataset = load_dataset(data, input_shape=input_shape)
        shape, classes = dataset.input_shape, dataset.num_classes
        note = f" for {'x'.join(map(str, shape))} and {classes} classes, as {dataset.name} has"
    architecture = resolve_architecture(network, input_shape=shape, num_classes=classes)
    if as_json:
        print_json(
            {
                "name": architecture.digest,
                "params": architecture.params,
                "macs": architecture.macs,
                "input_shape": architecture.input_shape,
                "num_classes": architecture.num_classes,
                "genotype": architecture.genotype,
                "blocks": architecture.blocks,
                "inputs": architecture.inputs,
                "norm_eps": architecture.norm_eps,
            }
        )
        return
    rows = [
        [str(place), block.label, f"{block.params:,}", f"{block.macs:,}"]
        for place, block in enumerate(architecture.blocks)
    ]
    print_table(["", "block", "params", "MACs"], rows)
    totals = f"{architecture.params:,} params, {architecture.macs:,} MACs"
    click.echo(f"{architecture.digest}: {totals}{note}")
