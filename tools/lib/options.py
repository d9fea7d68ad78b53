"""Command line options that several programs share."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import click

from tools.lib.results import SHARED_DATA

Option = Callable[[Callable[..., Any]], Callable[..., Any]]

PATH = click.Path(path_type=Path)

data_option = click.option(
    "--data",
    default=SHARED_DATA,
    type=click.Path(exists=True, path_type=Path),
    help="Folder of the published data.",
)
work_option = click.option(
    "--work", required=True, type=PATH, help="Folder for finished work; a second call goes on."
)
json_option = click.option("--json", "out", type=PATH, help="Write the figures as JSON, too.")


def seeds_option(default: int) -> Option:
    """Return ``--seeds``, the number of repetitions."""
    return click.option("--seeds", default=default, show_default=True)


def rounds_option(default: int) -> Option:
    """Return ``--rounds``, of which the median counts."""
    return click.option("--rounds", default=default, show_default=True, help="The median counts.")


def out_option(default: Path) -> Option:
    """Return ``--out``, the results file."""
    return click.option("--out", default=default, type=PATH, help="Results file.")
