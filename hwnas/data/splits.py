"""Splitting data sets into training, validation and test images, the same way on every machine.

A hash of the image (or of its file's name) decides its split, not a random generator or the order
of the files, so the splits survive new library versions and added images.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from hashlib import blake2b
from typing import NamedTuple, Protocol

import numpy as np
from numpy.typing import NDArray

from hwnas.data.stored import StoredImages
from hwnas.errors import InvalidFile

MAX_HELD_OUT = 10_000
"""Maximum number of images held out: an accuracy on them has a standard error below 0.5 points."""

MAX_HELD_OUT_PER_CLASS = 50

CHUNK_IMAGES = 256
"""Images that are read at a time when all are read in turn."""


MAX_LOADED = 2_000
"""Maximum number of stored images in memory at once, about 1.2 GB of float32 at 224 px. An accuracy
on them has a standard error of about one point."""


class LoadedSplit(NamedTuple):
    """Images in memory, uint8 ``[N, C, H, W]``, and their labels ``[N]``."""

    images: np.ndarray
    labels: np.ndarray


class Split(NamedTuple):
    """Images and their labels."""

    images: np.ndarray | StoredImages
    """uint8 ``[N, C, H, W]`` in memory, or images that are read when they are indexed."""
    labels: np.ndarray
    """int64 ``[N]``, 0 … num_classes - 1."""

    def subset(self, rows: NDArray[np.int64]) -> Split:
        """Return the images of these rows; those that are stored are not read."""
        images = self.images
        part = images[rows] if isinstance(images, np.ndarray) else images.subset(rows)
        return Split(part, self.labels[rows])

    def loaded(self) -> LoadedSplit:
        """Return the images in memory: all of an array, the first `MAX_LOADED` of stored ones.

        Files are verified on these; stored images come shuffled, so the first are a fair sample.
        """
        if isinstance(self.images, np.ndarray):
            return LoadedSplit(self.images, self.labels)
        return LoadedSplit(self.images[:MAX_LOADED], self.labels[:MAX_LOADED])

    def chunks(self) -> Iterator[NDArray[np.uint8]]:
        """Yield all images in order, `CHUNK_IMAGES` at a time."""
        for start in range(0, len(self.labels), CHUNK_IMAGES):
            yield self.images[start : start + CHUNK_IMAGES]


class Statistics(NamedTuple):
    """Statistics of stored images that are known without reading the images."""

    digest: str
    """16 hex digits that identify images, labels, classes, order and splits."""
    mean: tuple[float, ...]
    std: tuple[float, ...]
    """Mean and standard deviation of each channel of the training pixels, on a scale of 0 to 1."""


class Originals(Protocol):
    """Photos as they are stored."""

    def name(self, row: int) -> str: ...

    def size_bytes(self, row: int) -> int:
        """Return the size of the encoded image, without reading it."""
        ...

    def content(self, row: int) -> bytes:
        """Return the encoded image. Raises `InvalidFile`."""
        ...


class Origin(NamedTuple):
    """The photos that the images of a data set are from, ``N`` in all."""

    photos: Originals
    labels: NDArray[np.int64]
    """``[N]``."""
    parts: NDArray[np.uint8]
    """Split of each photo: 0 training, 1 validation, 2 test, ``[N]``."""
    sizes: NDArray[np.int32]
    """Height and width, 0 where a photo was left out, ``[N, 2]``."""


class Source(NamedTuple):
    """A data set as it was read: images may have any size, validation images may be missing."""

    name: str
    classes: tuple[str, ...]
    train: Split
    test: Split
    valid: Split | None = None
    """None: the source has no validation images of its own."""
    notes: tuple[str, ...] = ()
    """Remarks for the report, e.g. how many files were ignored."""
    statistics: Statistics | None = None
    """None: they are computed from the pixels."""
    answers_of: str = ""
    """Network whose predictions replace the labels; empty for true labels."""
    split: str = ""
    """How the splits were made."""
    origin: Origin | None = None
    """The photos that the images are from; None for arrays."""


def cut_classes(
    split: Split, classes: Sequence[str], share: float, where: str
) -> tuple[Split, Split]:
    """Split off ``share`` of each class; return the remaining images and those that are held out.

    The images with the smallest content hashes are held out, whatever the order of the images: at
    least one of each class and never all, at most `MAX_HELD_OUT` in all. A class of fewer than two
    images raises `InvalidFile`, which names ``where``.
    """
    share = capped_share(share, len(split.labels))
    keys = [
        blake2b(image.tobytes(), digest_size=8).digest()
        for images in split.chunks()
        for image in images
    ]
    chosen = np.zeros(len(keys), dtype=bool)
    for label, name in enumerate(classes):
        members = np.flatnonzero(split.labels == label).tolist()
        check_count(where, name, len(members), needed=2)
        count = min(max(round(share * len(members)), 1), len(members) - 1)
        chosen[sorted(members, key=lambda index: keys[index])[:count]] = True
    return split.subset(np.flatnonzero(~chosen)), split.subset(np.flatnonzero(chosen))


def moments(split: Split) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """Return mean and standard deviation of each channel, on a scale of 0 to 1; std >= 1/255."""
    counts = np.zeros((split.images.shape[1], 256), dtype=np.int64)
    for images in split.chunks():  # bincount needs 8 bytes for every pixel
        for channel, planes in enumerate(images.swapaxes(0, 1)):
            counts[channel] += np.bincount(planes.reshape(-1), minlength=256)
    values = np.arange(256) / 255
    mean = counts @ values / counts.sum(axis=1)
    variance = counts @ values**2 / counts.sum(axis=1) - mean**2
    std = np.sqrt(np.maximum(variance, 255.0**-2))
    return tuple(mean.tolist()), tuple(std.tolist())


def divide(names: Sequence[str], shares: Sequence[float]) -> list[list[str]]:
    """Divide the file names of a class into a list for each share; the shares sum to 1.

    A name's hash alone decides its list, so a new file moves no other file, and the lists have
    their shares only approximately. In a class so small that a list would be empty, each list gets
    at least one name. There must be at least as many names as shares.
    """
    ordered = in_hash_order(names)
    parts: list[list[str]] = []
    start, edge = 0, 0.0
    for left, share in zip(range(len(shares) - 1, -1, -1), shares, strict=True):
        edge += share
        below = sum(unit_hash(name) < edge for name in ordered) if left else len(ordered)
        end = min(max(below, start + 1), len(ordered) - left)
        parts.append(ordered[start:end])
        start = end
    return parts


def in_hash_order(names: Sequence[str]) -> list[str]:
    """Return the names in a shuffled order that is always the same."""
    return sorted(names, key=lambda name: (unit_hash(name), name))


def unit_hash(text: str) -> float:
    """Return a number in [0, 1) that depends on ``text`` only."""
    digest = blake2b(text.encode("utf-8", "surrogateescape"), digest_size=6).digest()
    return int.from_bytes(digest, "big") / 2**48


def capped_share(share: float, count: int, classes: int = 0) -> float:
    """Return ``share``, reduced if it would hold out too many of ``count`` images.

    The limit is `MAX_HELD_OUT`, or `MAX_HELD_OUT_PER_CLASS` for each class if that is more: 50,000
    for ImageNet, as in the literature.
    """
    limit = max(MAX_HELD_OUT, MAX_HELD_OUT_PER_CLASS * classes)
    return min(share, limit / max(count, 1))


def check_count(where: str, name: str, count: int, *, needed: int) -> None:
    """Raise `InvalidFile` if a class has too few images to be split."""
    if count < needed:
        images = f"{count} image{'s' * (count != 1)}"
        why = f"class {name!r} has {images} for {needed} splits, expected at least {needed}"
        raise InvalidFile(where, why)
