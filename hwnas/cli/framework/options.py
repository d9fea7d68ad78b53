"""Options that several commands share: the network that a file is compiled from."""

from __future__ import annotations

from typing import Any

from hwnas.cli.framework.command import option
from hwnas.cli.framework.params import PATH, SHAPE


def input_shape_option(group: str) -> Any:
    return option(
        "--input-shape", group=group, type=SHAPE, help="Input shape of a module of your own code."
    )


def checkpoint_option(group: str) -> Any:
    return option("--checkpoint", group=group, type=PATH, help="Weights to load (.safetensors).")
