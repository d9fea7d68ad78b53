"""Description of a network in the file of its trained weights, so that the file can be used
alone."""

from __future__ import annotations

from pathlib import Path

import msgspec
from safetensors import SafetensorError, safe_open

from hwnas.architecture.architecture import Architecture
from hwnas.errors import InvalidFile

NOTE = "network"
"""Key of the JSON in the metadata of a ``.safetensors`` file."""


class Normalisation(msgspec.Struct, frozen=True):
    """Mean and standard deviation of each channel, on a scale of 0 to 1."""

    mean: tuple[float, ...]
    std: tuple[float, ...]


class NetworkDescription(msgspec.Struct, frozen=True):
    """The network that weights belong to, the images it takes and the classes it knows."""

    architecture: Architecture
    normalisation: Normalisation | None = None
    """Normalisation of the images; ``None`` if the training did not state it."""
    classes: tuple[str, ...] = ()
    """Names of the classes in order; empty if the training did not state them."""


def description_notes(description: NetworkDescription) -> dict[str, str]:
    """Return the metadata of a file of weights (`hwnas.training.checkpoint.save_checkpoint`)."""
    # a single entry: their order in the file is not defined, and the same weights are the same file
    return {NOTE: msgspec.json.encode(description).decode()}


def read_description(path: Path) -> NetworkDescription | None:
    """Return the description in a ``.safetensors`` file, None for a file of another program.

    No weights are read. Raises `InvalidFile` for a damaged file.
    """
    try:
        with safe_open(path, framework="pt") as file:
            notes = file.metadata() or {}
    except (SafetensorError, OSError) as error:
        raise InvalidFile(str(path), f"not a readable checkpoint ({error})") from None
    if NOTE not in notes:
        return None
    try:
        return msgspec.json.decode(notes[NOTE], type=NetworkDescription)
    except msgspec.DecodeError as error:
        raise InvalidFile(str(path), f"metadata {NOTE!r}: {error}") from None
