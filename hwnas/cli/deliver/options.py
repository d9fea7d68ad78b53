"""Options on files that hwnas did not compile, which don't state what they take and give."""

from __future__ import annotations

import click

from hwnas.cli.framework.command import option
from hwnas.cli.framework.params import FILE

GROUP = "Files of other programs"

input_option = option(
    "--input",
    "input_values",
    group=GROUP,
    type=click.Choice(["pixels", "0..1", "-1..1", "imagenet"]),
    default_help="as the file states",
    help="Values that the model takes; imagenet: normalised by the mean and deviation of ImageNet.",
)
labels_option = option(
    "--labels",
    group=GROUP,
    type=FILE,
    metavar="FILE",
    default_help="as the file states",
    help="Text file with the name of a class in each line.",
)
