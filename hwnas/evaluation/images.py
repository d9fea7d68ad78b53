"""Labelled images to evaluate a model on: each has a name and is read when it is used."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Literal, NamedTuple, Protocol

import numpy as np
from numpy.typing import NDArray

from hwnas.data.datasets import NAMED, VALID_SHARE, Dataset, load_dataset
from hwnas.data.images import Shape, fit_image
from hwnas.data.photos.labelled import PARTS, LabelledPhotos, Photos, ReadingOptions
from hwnas.data.photos.reading import decoded
from hwnas.data.photos.sources.find import find_photos, find_undivided
from hwnas.data.splits import Split
from hwnas.errors import InvalidFile
from hwnas.processes import cores
from hwnas.report.schema import DatasetSummary

if TYPE_CHECKING:
    from PIL.Image import Image

SplitName = Literal["test", "valid", "train", "all"]

FEWEST_IMAGES = 3
"""Images of a class from which on a folder is divided into training, validation and test images."""

CHUNK_IMAGES = 64
"""Images that are decoded at a time, by several threads."""


class Pictures(Protocol):
    """Images of any size."""

    def name(self, row: int) -> str:
        """Return the name of the image on pages and in messages: its file, if it has one."""
        ...

    def picture(self, row: int) -> Image:
        """Return an image of mode L or RGB, upright. Raises `InvalidFile`."""
        ...

    def fault(self, row: int) -> str | None:
        """Return why the header of an image can't be read, None if it can."""
        ...


class LabelledImages(NamedTuple):
    """The images of one evaluation."""

    name: str
    """Name of the data set."""
    choice: str
    """Which images of it, and why these: a phrase such as ``the test images of flowers``."""
    classes: tuple[str, ...]
    labels: NDArray[np.int64]
    pictures: Pictures


def find_images(
    data: str, split: SplitName | None, shape: Shape, trained_on: DatasetSummary | None
) -> LabelledImages:
    """Return the images of a split of a data set, unread; ``shape`` is the model's input.

    Without a ``split`` they are the test images. Of a folder without splits, they are all images
    if the model was trained on another data set, or a class has too few images to be divided.
    """
    every = None if data in NAMED else find_undivided(data)
    if every is not None:
        remark = _why_every_image(every, split, trained_on)
        if remark is not None:
            return _of_photos(every, "all", remark)
    group_by = "" if trained_on is None else trained_on.group_by
    if every is not None and trained_on is not None and not _is_same(every, trained_on):
        group_by = ""
    remark = "" if every is None or split else "15 % of each class; --split all takes every image"
    photos = None if data in NAMED else find_photos(data, VALID_SHARE, group_by)
    if photos is not None:
        return _of_photos(photos, split or "test", remark)
    return _of_dataset(load_dataset(data, input_shape=shape), split or "test")


def fitted_images(
    images: LabelledImages, shape: Shape, options: ReadingOptions
) -> Iterator[tuple[int, NDArray[np.uint8]]]:
    """Yield rows with their images ``[C, H, W]``, fitted to the model's input.

    Raises `InvalidFile` with all images that can't be read, unless broken ones are skipped: before
    the first row for those of which the header is broken, else after the last.
    """

    def fitted(row: int) -> NDArray[np.uint8] | InvalidFile:
        try:
            return fit_image(images.pictures.picture(row), shape)
        except InvalidFile as error:
            return error

    count, broken = len(images.labels), dict[str, str]()
    with ThreadPoolExecutor(cores()) as pool:
        if not options.skip_broken:
            faults = pool.map(images.pictures.fault, range(count))
            options.refuse(images.name, _named(images, faults), count)
        for start in range(0, count, CHUNK_IMAGES):
            rows = range(start, min(start + CHUNK_IMAGES, count))
            for row, pixels in zip(rows, pool.map(fitted, rows), strict=True):
                if isinstance(pixels, InvalidFile):
                    broken[pixels.file] = pixels.why
                else:
                    yield row, pixels
    options.refuse(images.name, broken, count)


def _named(images: LabelledImages, faults: Iterable[str | None]) -> dict[str, str]:
    return {images.pictures.name(row): why for row, why in enumerate(faults) if why is not None}


class PhotoPictures:
    """Photos of a source, in their own sizes."""

    def __init__(self, photos: Photos, rows: NDArray[np.int64]) -> None:
        self.photos, self.rows = photos, rows

    def name(self, row: int) -> str:
        return self.photos.name(int(self.rows[row]))

    def picture(self, row: int) -> Image:
        with self.photos.open(int(self.rows[row])) as image:
            return decoded(image)

    def fault(self, row: int) -> str | None:
        try:
            with self.photos.open(int(self.rows[row])):
                return None
        except InvalidFile as error:
            return error.why


class ArrayPictures:
    """Images of splits that come as arrays; they have no names of their own."""

    def __init__(self, splits: Sequence[tuple[str, Split]]) -> None:
        self.places = [(name, s, row) for name, s in splits for row in range(len(s.labels))]

    def name(self, row: int) -> str:
        name, _, place = self.places[row]
        return f"{name} image {place}"

    def picture(self, row: int) -> Image:
        from PIL import Image as images

        _, split, place = self.places[row]
        planes = split.images[place : place + 1][0]
        pixels = planes[0] if len(planes) == 1 else np.ascontiguousarray(planes.transpose(1, 2, 0))
        return images.fromarray(pixels)

    def fault(self, row: int) -> str | None:
        return None


def _why_every_image(
    photos: LabelledPhotos, split: SplitName | None, trained_on: DatasetSummary | None
) -> str | None:
    """Return the remark if all images of a folder without splits are taken, else None."""
    if split is not None:
        return "" if split == "all" else None
    if len(photos.classes) < 2 or np.bincount(photos.labels).min() < FEWEST_IMAGES:
        return "which are too few to be divided"
    if trained_on is None or _is_same(photos, trained_on):
        return None
    return f"as the model was trained on {trained_on.name}"


def _is_same(photos: LabelledPhotos, trained_on: DatasetSummary) -> bool:
    """Return whether a model may have been trained on these photos, which may have moved."""
    counts = (trained_on.train, trained_on.valid, trained_on.test)
    return photos.name == trained_on.name or len(photos.labels) == sum(counts)


def _of_photos(photos: LabelledPhotos, split: SplitName, remark: str) -> LabelledImages:
    chosen = np.ones(len(photos.labels), dtype=bool)
    if split != "all":
        chosen = photos.parts == PARTS.index(split)
    rows = np.flatnonzero(chosen)
    return LabelledImages(
        photos.name,
        _choice(photos.name, split, remark),
        photos.classes,
        photos.labels[rows],
        PhotoPictures(photos.photos, rows),
    )


def _of_dataset(dataset: Dataset, split: SplitName) -> LabelledImages:
    splits = {"train": dataset.train, "valid": dataset.valid, "test": dataset.test}
    chosen = [(name, part) for name, part in splits.items() if split in (name, "all")]
    return LabelledImages(
        dataset.name,
        _choice(dataset.name, split, ""),
        dataset.classes,
        np.concatenate([part.labels for _, part in chosen]),
        ArrayPictures(chosen),
    )


def _choice(name: str, split: SplitName, remark: str) -> str:
    words = {"valid": "the validation", "train": "the training", "test": "the test", "all": "all"}
    return f"{words[split]} images of {name}" + f", {remark}" * bool(remark)
