"""Options that several commands share."""

from __future__ import annotations

from typing import Any

from hwnas.cli.framework.command import option
from hwnas.cli.framework.params import PATH, SHAPE, WAIT


def input_shape_option(group: str) -> Any:
    return option(
        "--input-shape", group=group, type=SHAPE, help="Input shape of a module of your own code."
    )


def checkpoint_option(group: str) -> Any:
    return option("--checkpoint", group=group, type=PATH, help="Weights to load (.safetensors).")


wait_idle_option = option(
    "--wait-idle",
    "wait_idle_s",
    group="Measurement",
    type=WAIT,
    default=0.0,
    default_help="measure at once",
    help="Wait at most this time, such as 10m, for a quiet core of this machine.",
)
