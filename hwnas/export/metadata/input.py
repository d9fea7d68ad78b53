"""The input of a model file: pixels or normalised values, their layout, and the class names.

It is JSON under the key `NAME` in the file (see `hwnas.export.metadata.entries`). No torch.
"""

from __future__ import annotations

from pathlib import Path
from typing import Literal

import msgspec

from hwnas.architecture.artifact import Format
from hwnas.architecture.runtimes import COMPILED
from hwnas.errors import InvalidFile
from hwnas.export.graph.nodes import INPUT
from hwnas.export.metadata.entries import read_entry

NAME = "hwnas.input"


class Preprocessing(msgspec.Struct, frozen=True):
    """How images become the input: ``(pixel / 255 - mean) / std`` for each channel."""

    mean: tuple[float, ...]
    std: tuple[float, ...]
    labels: tuple[str, ...]
    embedded: bool = False
    """Whether the compiler adds this normalisation, so that the file takes pixels from 0 to 255."""
    inside: bool = False
    """Whether the network itself normalises, in its own way, and takes pixels from 0 to 255."""

    @property
    def takes_pixels(self) -> bool:
        return self.embedded or self.inside


class InputMetadata(msgspec.Struct, frozen=True):
    """The JSON in the file."""

    name: str
    layout: str
    shape: tuple[int, ...]
    takes: Literal["pixels", "normalised"]
    """``pixels``: 0 to 255; ``normalised``: ``(pixel / 255 - mean) / std``."""
    mean: tuple[float, ...]
    std: tuple[float, ...]
    labels: tuple[str, ...]


def describe_input(
    preprocessing: Preprocessing, format: Format, input_shape: tuple[int, int, int]
) -> InputMetadata:
    """Return the description of the input of a file for images of ``input_shape``."""
    runtime = COMPILED[format]
    return InputMetadata(
        INPUT,
        runtime.layout,
        runtime.batch_shape(input_shape),
        "pixels" if preprocessing.takes_pixels else "normalised",
        preprocessing.mean,
        preprocessing.std,
        preprocessing.labels,
    )


def input_metadata(
    preprocessing: Preprocessing, format: Format, input_shape: tuple[int, int, int]
) -> dict[str, bytes]:
    """Return the metadata entry that describes the input."""
    return {NAME: msgspec.json.encode(describe_input(preprocessing, format, input_shape))}


def read_input(path: Path) -> InputMetadata | None:
    """Return what a file states about its input, None if hwnas wrote nothing into it."""
    data = read_entry(path, NAME)
    if data is None:
        return None
    try:
        return msgspec.json.decode(data, type=InputMetadata)
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise InvalidFile(str(path), f"{NAME}: {error}") from None


def takes_pixels(path: Path) -> bool:
    """Return whether a file states that it takes pixels; a damaged file states nothing."""
    try:
        stated = read_input(path)
    except InvalidFile:
        return False
    return stated is not None and stated.takes == "pixels"
