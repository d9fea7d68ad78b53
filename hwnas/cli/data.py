"""`hwnas data`: look at data sets, prepare large ones."""

from __future__ import annotations

from pathlib import Path

import click

from hwnas.cli.framework.command import Group, json_option, option, quiet_option
from hwnas.cli.framework.options import group_by_option, skip_broken_option
from hwnas.cli.tables import print_json


@click.group("data", cls=Group)
def data() -> None:
    """Look at data sets, and prepare those that are larger than memory."""


@data.command(
    "pack",
    continued_by="",
    example=(
        "hwnas data pack photos --size 224",
        "hwnas data pack 'shards/train-{000..010}.tar' --out train.packed",
    ),
)
@click.argument("source", metavar="DATA")
@option(
    "--size",
    type=click.IntRange(1),
    metavar="PIXELS",
    default_help="the images' own up to 224",
    help="Height and width of the network's input.",
)
@option(
    "--out",
    group="Output",
    type=click.Path(dir_okay=False, path_type=Path),
    metavar="FILE",
    default_help="in hwnas's home, where runs on DATA find it",
    help="File to write, to be used as --data FILE.",
)
@skip_broken_option("Options")
@quiet_option
def pack(source: str, size: int | None, out: Path | None, skip_broken: bool, quiet: bool) -> None:
    """Shrink all images of DATA once and write them to one file, from which runs read faster.

    DATA is a folder of images, a list (.csv, .tsv, .txt), tar shards or a Hugging Face data set.
    Images are stored uncompressed, a little larger than the network's input: 256 pixels for 224. A
    packing that is interrupted goes on when the command is repeated.
    """
    from hwnas.console import console
    from hwnas.data.datasets import pack_dataset
    from hwnas.data.photos.labelled import ReadingOptions

    output = console(quiet)
    options = ReadingOptions(skip_broken, output.say, output.step)
    click.echo(pack_dataset(source, size, out, options))


@data.command(
    "show",
    example=(
        "hwnas data show photos",
        r"hwnas data show photos --group-by 'person(\d+)'",
    ),
)
@click.argument("source", metavar="DATA")
@group_by_option("Options")
@json_option
def show(source: str, group_by: str, as_json: bool) -> None:
    """Print what a run would make of DATA: classes, splits, sizes, duplicates, unreadable images.

    DATA is what --data of `hwnas specialize` takes. All images that can't be read are listed with
    their reasons, and left out of the counts.
    """
    from hwnas.console import console
    from hwnas.data.datasets import load_dataset, unreadable
    from hwnas.data.photos.labelled import ReadingOptions
    from hwnas.specialize.card import card_text, data_card

    broken = unreadable(source)
    step = console(quiet=as_json).step
    options = ReadingOptions(bool(broken), step=step, group_by=group_by, remember=False)
    dataset = load_dataset(source, options=options)
    card = data_card(dataset)
    if as_json:
        print_json({"name": dataset.name, "card": card, "notes": dataset.notes, "broken": broken})
        return
    click.echo(card_text(dataset, card))
    for name, why in broken.items():
        click.echo(f"unreadable  {name}: {why}")
