"""Options that several latency commands share."""

from __future__ import annotations

import click

from hwnas.cli.framework.command import option
from hwnas.cli.framework.params import DATA, FILE, PRECISION, SPACE, TARGET

target_option = option(
    "--target", group="Device", type=TARGET, default="host-cpu", help="Device: a name or a profile."
)
space_option = option(
    "--space", group="Search space", type=SPACE, default="mobile", help="Search space."
)
data_option = option(
    "--data",
    group="Search space",
    type=DATA,
    default="fashion-mnist-6k",
    help="Data set that sets the input shape and the number of classes.",
)
resolution_option = option(
    "--resolution",
    group="Search space",
    type=click.IntRange(1),
    metavar="PIXELS",
    default_help="the data set's, or the target's",
    help="Height and width of the images.",
)
precision_option = option(
    "--precision",
    group="Search space",
    type=PRECISION,
    default="fp32",
    help="Precision of the networks.",
)
out_option = option(
    "--out",
    group="Output",
    type=FILE,
    default_help="in hwnas's home, where runs for the device find it",
    help="Write the model to this file.",
)
force_option = option(
    "--force", group="Output", is_flag=True, help="Overwrite an existing model of that name."
)
