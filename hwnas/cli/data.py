"""`hwnas data`: prepare large data sets."""

from __future__ import annotations

from pathlib import Path

import click

from hwnas.cli.framework.command import Group, option, quiet_option


@click.group("data", cls=Group)
def data() -> None:
    """Prepare data sets that are larger than memory."""


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
@option("--skip-broken", is_flag=True, help="Leave out images that can't be read.")
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
