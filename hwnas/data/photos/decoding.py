"""Photos that are decoded each time they are used, if memory and disk cannot hold their copies."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import NamedTuple, Self

import numpy as np
from numpy.typing import NDArray

from hwnas.data.images import Shape, centre_box
from hwnas.data.photos.labelled import Photos, ReadingOptions
from hwnas.data.photos.reading import crop_rows, decoded, shrunk
from hwnas.data.stored import Rows, share_box, stacked
from hwnas.errors import InvalidFile

Box = Callable[[int, int], Sequence[float]]
"""Returns left, top, right and bottom in pixels for a width and a height."""


class PhotoSet(NamedTuple):
    """Photos with their sizes, before decoding."""

    photos: Photos
    labels: NDArray[np.int64]
    sizes: NDArray[np.int32]
    """Height and width, ``[N, 2]``."""
    shape: Shape
    options: ReadingOptions


class DecodedImages:
    """Photos as `hwnas.data.stored.StoredImages`.

    With ``skip_broken`` the next photo of the class takes the place of one that can't be read.
    """

    def __init__(self, every: PhotoSet, rows: NDArray[np.int64]) -> None:
        self.every, self.rows = every, rows

    @property
    def shape(self) -> tuple[int, int, int, int]:
        return len(self.rows), *self.every.shape

    @property
    def sizes(self) -> NDArray[np.int32]:
        return self.every.sizes[self.rows]

    def __len__(self) -> int:
        return len(self.rows)

    def __getitem__(self, rows: Rows) -> NDArray[np.uint8]:
        _, out_height, out_width = self.every.shape

        def centre(width: int, height: int) -> Sequence[float]:
            return centre_box(width, height, out_width / out_height)

        places = np.arange(len(self.rows))[rows].tolist()
        images = (self._crop(place, centre) for place in places)
        return stacked(images, len(places), self.every.shape)

    def crops(self, rows: NDArray[np.int64], boxes: NDArray[np.float32]) -> NDArray[np.uint8]:
        places = np.arange(len(self.rows))[rows].tolist()
        images = (
            self._crop(place, lambda width, height, box=box: share_box(box, width, height))
            for place, box in zip(places, boxes.tolist(), strict=True)
        )
        return stacked(images, len(places), self.every.shape)

    def subset(self, rows: NDArray[np.int64]) -> Self:
        return type(self)(self.every, self.rows[rows])

    def _crop(self, place: int, box: Box) -> NDArray[np.uint8]:
        """Return a box of the photo, or else of the next of its class that can be read."""
        try:
            return self._read(int(self.rows[place]), box)
        except InvalidFile as error:
            self._refuse(error)
        for row in self._next_of_class(place):
            try:
                return self._read(row, box)
            except InvalidFile as error:
                self._refuse(error)
        name = self.every.photos.name(int(self.rows[place]))
        raise InvalidFile(name, "not a readable image, and its class has no other")

    def _refuse(self, error: InvalidFile) -> None:
        total = len(self.every.labels)
        self.every.options.refuse(error.file, {error.file: error.why}, total)

    def _next_of_class(self, place: int) -> list[int]:
        """Return the other photos of a photo's class, those after it first."""
        labels = self.every.labels[self.rows]
        same = np.flatnonzero(labels == labels[place])
        after = int(np.searchsorted(same, place))
        return self.rows[np.roll(same, -after)[1:]].tolist()

    def _read(self, row: int, box: Box) -> NDArray[np.uint8]:
        with self.every.photos.open(row) as image:
            copy = np.asarray(shrunk(decoded(image), self.every.shape))
        height, width = copy.shape[:2]
        return crop_rows(
            lambda first, end: copy[first:end].tobytes(),
            (height, width),
            box(width, height),
            self.every.shape,
        )
