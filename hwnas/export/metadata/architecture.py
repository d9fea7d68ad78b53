"""The architecture inside a model file: its blocks, and how they are connected.

It is JSON under the key `NAME` (see `hwnas.export.metadata.entries`).
"""

from __future__ import annotations

from pathlib import Path

import msgspec

from hwnas.architecture.architecture import NORM_EPS, Architecture, Block, Genotype
from hwnas.errors import InvalidFile, UsageError
from hwnas.export.metadata.entries import read_entry

NAME = "hwnas.architecture"


class EmbeddedArchitecture(
    msgspec.Struct, frozen=True, forbid_unknown_fields=True, omit_defaults=True
):
    """The JSON; block keys are enough to build the network and to predict its latency."""

    input_shape: tuple[int, int, int]
    num_classes: int
    blocks: tuple[str, ...]
    inputs: tuple[tuple[int, ...], ...] = ()
    """As in `Architecture`; empty for a chain."""
    space: str = ""
    choices: tuple[int, ...] = ()
    norm_eps: float | None = None
    """``None``: `NORM_EPS`, so that it is left out."""


def architecture_metadata(architecture: Architecture) -> dict[str, bytes]:
    """Return the metadata entry that describes ``architecture``."""
    content = EmbeddedArchitecture(
        input_shape=architecture.input_shape,
        num_classes=architecture.num_classes,
        blocks=tuple(block.key for block in architecture.blocks),
        inputs=architecture.inputs,
        space=architecture.genotype.space,
        choices=architecture.genotype.choices,
        norm_eps=None if architecture.norm_eps == NORM_EPS else architecture.norm_eps,
    )
    return {NAME: msgspec.json.encode(content)}


def read_embedded(path: Path) -> Architecture:
    """Return the architecture inside a model file. Raises `InvalidFile` if there is none."""
    data = read_entry(path, NAME)
    if data is None:
        raise InvalidFile(
            str(path),
            "does not state its blocks, as files of networks that hwnas searched, trained or cut "
            "do; give that network: a run folder, a JSON file of its architecture, module:factory "
            "(`hwnas benchmark --per-op` times the operators of any file)",
        )
    try:
        content = msgspec.json.decode(data, type=EmbeddedArchitecture)
        return Architecture(
            Genotype(content.space, content.choices),
            tuple(map(Block.from_key, content.blocks)),
            content.input_shape,
            content.num_classes,
            content.inputs,
            NORM_EPS if content.norm_eps is None else content.norm_eps,
        )
    except (msgspec.DecodeError, UsageError) as error:
        raise InvalidFile(str(path), f"{NAME}: {error}") from None
