"""Photos without labels, with the predictions of a trained network: ``FILE.answers``.

The classes are those of the network, and the label of a photo is the class that the network
predicts, so an accuracy on such data is the agreement with that network.
"""

from __future__ import annotations

from functools import partial
from pathlib import Path

import msgspec
import numpy as np

from hwnas.data.photos.labelled import FilePhotos, LabelledPhotos
from hwnas.data.photos.sources.dividing import SPLIT_SHARES
from hwnas.data.photos.sources.listing import has_images, list_entries
from hwnas.data.splits import divide, in_hash_order
from hwnas.errors import InvalidFile
from hwnas.files import read_json

SUFFIX = ".answers"
MIN_PHOTOS = 20
"""Least number of photos: with fewer, the standard error of an agreement is about 10 points."""


class Answers(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The content of the file."""

    folder: str
    """Folder of the photos, an absolute path."""
    network: str
    """Name of the network."""
    classes: tuple[str, ...]
    """Classes of the network, in order; names may repeat."""
    labels: dict[str, int]
    """The network's class for each photo, by the name of its file."""


def photos_of(data: str) -> str:
    """Return the folder of the photos for a file of predictions; other data unchanged."""
    path = Path(data)
    return read_json(path, Answers).folder if path.suffix == SUFFIX and path.is_file() else data


def is_unlabelled(name: str) -> bool:
    """Return whether ``name`` is a folder of photos that are not in folders of classes."""
    path = Path(name).expanduser()
    if not path.is_dir() or any(path.glob("*.tar")):
        return False
    entries = list_entries(path)
    return bool(entries.images) and not any(has_images(path / each) for each in entries.folders)


def unlabelled_photos(folder: Path) -> FilePhotos:
    """Return the photos that lie in a folder. Raises `InvalidFile` if they are too few."""
    names = sorted(list_entries(folder).images)
    if len(names) < MIN_PHOTOS:
        raise InvalidFile(
            str(folder), f"has {len(names)} images without labels, expected at least {MIN_PHOTOS}"
        )
    return FilePhotos(folder, names)


def answered_photos(path: Path) -> LabelledPhotos:
    """Return the photos of a file of predictions: 70 % for training, 15 % each to validate and
    test."""
    answers = read_json(path, Answers)
    names = in_hash_order(list(answers.labels))
    part_of = {
        name: part for part, group in enumerate(divide(names, SPLIT_SHARES)) for name in group
    }
    folder = Path(answers.folder)
    photos = partial(FilePhotos, folder)
    return LabelledPhotos(
        answers.folder,
        folder.name,
        answers.classes,
        photos(names),
        np.array([answers.labels[name] for name in names], dtype=np.int64),
        np.array([part_of[name] for name in names], dtype=np.uint8),
        (
            f"The photos have no labels. Agreement is the share of them for which a network gives "
            f"the class that {answers.network} gives.",
        ),
        answers.network,
    )
