"""Command line options that several programs share."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import click

from tools.lib.results import SHARED_DATA

PATH = click.Path(path_type=Path)

data_option = click.option(
    "--data",
    default=SHARED_DATA,
    type=click.Path(exists=True, path_type=Path),
    help="Folder of the published data.",
)
work_option = click.option(
    "--work", required=True, type=PATH, help="Folder for finished work; an interrupted run goes on."
)
json_option = click.option("--json", "out", type=PATH, help="Write the figures as JSON, too.")


def out_option(
    default: Path, help: str = "Results file to write."
) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    """Return ``--out``, where a program writes."""
    return click.option("--out", type=PATH, default=default, help=help)


def seeds_option(
    default: int, minimum: int = 1
) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    """Return ``--seeds``, the number of repetitions."""
    return click.option("--seeds", default=default, show_default=True, type=click.IntRange(minimum))
