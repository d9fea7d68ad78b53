"""User-defined plain chains: TOML files with ``family = "plain"``.

Fields: `hwnas/spaces/chains`. Image size and classes come from the data.
"""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Annotated, Literal

import msgspec

from hwnas.errors import InvalidFile, UsageError
from hwnas.files import decode_toml
from hwnas.spaces.grown.chain import image_size, plain_blocks
from hwnas.spaces.grown.space import GrownSpace, GrownStage, Layer

Positive = Annotated[int, msgspec.Meta(ge=1)]
Levels = Annotated[tuple[Positive, ...], msgspec.Meta(min_length=1)]


class PlainStage(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """A run of convolutions and the pool after it."""

    start: Levels
    """Widths of the layers of the start network."""
    default: tuple[Positive, ...] = ()
    """Widths of the layers of the default network; empty: those of the start network."""
    kernel_size: Literal[1, 3, 5, 7] = 3
    """Kernel size of the layers in both networks."""
    depth: Positive = 10
    stride: Literal[1, 2] = 1
    """Stride of the first layer."""
    pool: Positive = 1
    """Kernel and stride of the max pool after the stage; 1: none."""


class FullyConnected(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    units: Levels
    start: Levels
    default: tuple[Positive, ...] = ()
    depth: Positive = 3


class PlainFile(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """The content of a TOML file."""

    family: Literal["plain"]
    name: Annotated[str, msgspec.Meta(pattern=r"^[a-z0-9][a-z0-9_.-]*$")]
    title: str = ""
    source: str = ""
    widths: Levels
    kernel_size: Annotated[tuple[Literal[1, 3, 5, 7], ...], msgspec.Meta(min_length=1)]
    stages: Annotated[tuple[PlainStage, ...], msgspec.Meta(min_length=1)]
    fully_connected: FullyConnected | None = None


def plain_file_space(name: str, input_shape: tuple[int, int, int], num_classes: int) -> GrownSpace:
    """Return the space of a file for images of ``input_shape`` (channels, height, width).

    Its name has the digest of the file, so that no measurement of another version is used for it.
    Raises `InvalidFile` with the field, also where strides and pools leave no pixel.
    """
    text = Path(name).read_bytes()
    file = decode_toml(text, PlainFile, name)
    image_size(name, input_shape, 1)
    stages = [_stage(row, file) for row in file.stages]
    if file.fully_connected is not None:
        stages.append(_fully_connected(file.fully_connected))
    space = GrownSpace(
        f"{file.name}-{hashlib.sha256(text).hexdigest()[:6]}",
        input_shape,
        num_classes,
        tuple(stages),
        "plain",
        plain_blocks,
    )
    for where, levels in [("widths", file.widths), *_units(file)]:
        if list(levels) != sorted(set(levels)):
            raise InvalidFile(
                name, f"expected ascending numbers, got {list(levels)} - at `$.{where}`"
            )
    try:
        for genotype in (space.start, space.default):
            space.architecture(genotype)
    except UsageError as error:
        raise InvalidFile(name, str(error)) from None
    return space


def _stage(row: PlainStage, file: PlainFile) -> GrownStage:
    return GrownStage(
        widths=file.widths,
        kernels=tuple(sorted(set(file.kernel_size))),
        depth=row.depth,
        start=tuple(Layer(width, row.kernel_size) for width in row.start),
        default=tuple(Layer(width, row.kernel_size) for width in row.default or row.start),
        stride=row.stride,
        pool=row.pool,
    )


def _fully_connected(row: FullyConnected) -> GrownStage:
    return GrownStage(
        widths=row.units,
        kernels=(1,),
        depth=row.depth,
        start=tuple(Layer(width, 1) for width in row.start),
        default=tuple(Layer(width, 1) for width in row.default or row.start),
        fully_connected=True,
    )


def _units(file: PlainFile) -> list[tuple[str, tuple[int, ...]]]:
    stage = file.fully_connected
    return [] if stage is None else [("fully_connected.units", stage.units)]
