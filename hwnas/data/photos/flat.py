"""Shrunk copies of photos, one after another in memory or in a file.

Both have the same pixels, so the results do not depend on where a data set is held.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple, Protocol, Self

import numpy as np
from numpy.typing import NDArray

from hwnas.data.images import Shape, centre_box
from hwnas.data.photos.reading import crop_rows, shrunk_size
from hwnas.data.stored import Rows, StoredImages, share_box, stacked
from hwnas.errors import InvalidFile


class Bytes(Protocol):
    def read(self, start: int, end: int) -> Any:
        """Return these bytes as a buffer; may be called from several threads."""
        ...


class MemoryBytes(NamedTuple):
    buffer: NDArray[np.uint8]

    def read(self, start: int, end: int) -> Any:
        return self.buffer[start:end]


class FileBytes:
    """Bytes of a file. Reading them puts no pages of the file into the process's memory."""

    def __init__(self, path: Path, start: int) -> None:
        self.path, self.start = path, start
        self._descriptor = os.open(path, os.O_RDONLY)

    def __del__(self) -> None:
        os.close(self._descriptor)

    def read(self, start: int, end: int) -> bytes:
        content = os.pread(self._descriptor, end - start, self.start + start)
        if len(content) != end - start:
            raise InvalidFile(str(self.path), "is cut short, expected a whole packed data set")
        return content


def packed_path(images: StoredImages) -> Path | None:
    """Return the packed file that images are read from, None if there is none."""
    pixels = images.pixels if isinstance(images, FlatImages) else None
    return pixels.path if isinstance(pixels, FileBytes) else None


class Layout(NamedTuple):
    """Position of the copy of each photo; a photo that is left out has the size 0."""

    shape: Shape
    originals: NDArray[np.int32]
    """Height and width of the photos, ``[N, 2]``."""
    sizes: NDArray[np.int32]
    """Height and width of the copies, ``[N, 2]``."""
    offsets: NDArray[np.uint64]
    """First byte of each copy, and the end of the last, ``[N + 1]``."""

    @property
    def pixel_bytes(self) -> int:
        return int(self.offsets[-1])

    def span(self, row: int) -> tuple[int, int]:
        return int(self.offsets[row]), int(self.offsets[row + 1])


def layout_of(originals: NDArray[np.int32], shape: Shape) -> Layout:
    """Return the layout of the copies of photos of these heights and widths ``[N, 2]``."""
    distinct, inverse = np.unique(originals, axis=0, return_inverse=True)
    copies = [
        shrunk_size(height, width, shape) if height else (0, 0)
        for height, width in distinct.tolist()
    ]
    sizes = np.array(copies, dtype=np.int32).reshape(-1, 2)[inverse.reshape(-1)]
    counts = sizes[:, 0].astype(np.uint64) * sizes[:, 1].astype(np.uint64) * np.uint64(shape[0])
    offsets = np.concatenate([np.zeros(1, np.uint64), np.cumsum(counts, dtype=np.uint64)])
    return Layout(shape, originals, sizes, offsets)


class FlatImages:
    """Copies of photos as `hwnas.data.stored.StoredImages`; indexing fits the copies."""

    def __init__(self, layout: Layout, pixels: Bytes, rows: NDArray[np.int64]) -> None:
        self.layout, self.pixels, self.rows = layout, pixels, rows

    @property
    def shape(self) -> tuple[int, int, int, int]:
        return len(self.rows), *self.layout.shape

    @property
    def sizes(self) -> NDArray[np.int32]:
        return self.layout.originals[self.rows]

    def __len__(self) -> int:
        return len(self.rows)

    def __getitem__(self, rows: Rows) -> NDArray[np.uint8]:
        _, height, width = self.layout.shape
        copies = self._copies(rows)
        images = (
            self._crop(row, centre_box(copy_width, copy_height, width / height))
            for row, (copy_height, copy_width) in copies
        )
        return stacked(images, len(copies), self.layout.shape)

    def crops(self, rows: NDArray[np.int64], boxes: NDArray[np.float32]) -> NDArray[np.uint8]:
        images = (
            self._crop(row, share_box(box, width, height))
            for (row, (height, width)), box in zip(self._copies(rows), boxes.tolist(), strict=True)
        )
        return stacked(images, len(rows), self.layout.shape)

    def subset(self, rows: NDArray[np.int64]) -> Self:
        return type(self)(self.layout, self.pixels, self.rows[rows])

    def _copies(self, rows: Rows) -> list[tuple[int, tuple[int, int]]]:
        """Return the photos of these rows with the sizes of their copies."""
        photos = self.rows[rows]
        return list(zip(photos.tolist(), self.layout.sizes[photos].tolist(), strict=True))

    def _crop(self, row: int, box: Sequence[float]) -> NDArray[np.uint8]:
        height, width = self.layout.sizes[row].tolist()
        start, line = int(self.layout.offsets[row]), width * self.layout.shape[0]
        return crop_rows(
            lambda first, end: self.pixels.read(start + first * line, start + end * line),
            (height, width),
            box,
            self.layout.shape,
        )
