"""Normalisation and class names of a model file, from its metadata or from the user."""

from __future__ import annotations

from pathlib import Path
from typing import Literal, NamedTuple

from hwnas.errors import InvalidFile
from hwnas.export.metadata.input import read_input
from hwnas.export.recipe import format_of
from hwnas.files import check_no_pointer, read_bytes

InputValues = Literal["pixels", "0..1", "-1..1", "imagenet"]


class Normalisation(NamedTuple):
    """Inputs are ``(pixel / scale - mean) / std`` for each channel."""

    mean: tuple[float, ...] = (0.0,)
    std: tuple[float, ...] = (1.0,)
    scale: float = 255.0


NORMALISATIONS: dict[InputValues, Normalisation] = {
    "pixels": Normalisation(scale=1.0),
    "0..1": Normalisation(),
    "-1..1": Normalisation((0.5,), (0.5,)),
    "imagenet": Normalisation((0.485, 0.456, 0.406), (0.229, 0.224, 0.225)),
}
"""Usual normalisations of other programs; ``imagenet``: torchvision's mean and standard
deviation."""


class StatedModel(NamedTuple):
    """A model file with its metadata."""

    path: Path
    normalisation: Normalisation | None
    labels: tuple[str, ...]

    def given(self, input_values: InputValues | None, labels: Path | None) -> StatedModel:
        """Return the model with the values of the user in place of the file's own."""
        stated = self
        if input_values is not None:
            stated = stated._replace(normalisation=NORMALISATIONS[input_values])
        if labels is not None:
            stated = stated._replace(labels=read_labels(labels))
        return stated


def stated_in(path: Path) -> StatedModel:
    """Return the metadata of a file; files of other programs have none. Raises `InvalidFile`."""
    format_of(path)
    check_no_pointer(path)
    metadata = read_input(path)
    if metadata is None:
        return StatedModel(path, None, ())
    normalisation = NORMALISATIONS["pixels"]
    if metadata.takes != "pixels":
        normalisation = Normalisation(metadata.mean, metadata.std)
    return StatedModel(path, normalisation, metadata.labels)


def read_labels(path: Path) -> tuple[str, ...]:
    """Return the names of classes, one in each line of a file. Raises `InvalidFile`."""
    try:
        lines = read_bytes(path).decode("utf-8-sig").splitlines()
    except UnicodeDecodeError as error:
        raise InvalidFile(str(path), f"not a text file ({error})") from None
    labels = tuple(line.strip() for line in lines if line.strip())
    if not labels:
        raise InvalidFile(str(path), "has no lines, expected the name of a class in each")
    return labels
