"""Images that are read when they are indexed, beside numpy arrays ``[N, C, H, W]`` in memory.

Every method may be called from several threads at once; decoding and resizing release Python's
lock, so threads read on several cores.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from contextlib import AbstractContextManager
from typing import TYPE_CHECKING, Protocol, Self

import numpy as np
from numpy.typing import NDArray

from hwnas.data.images import Shape, crop_image, fit_image, to_grey_or_rgb

if TYPE_CHECKING:
    from PIL.Image import Image

Rows = slice | NDArray[np.int64]


class StoredImages(Protocol):
    """Labelled images larger than memory, or of more pixels than the network takes."""

    @property
    def shape(self) -> tuple[int, int, int, int]:
        """``[N, C, H, W]`` of what indexing gives."""
        ...

    @property
    def sizes(self) -> NDArray[np.int32]:
        """Height and width of the originals in pixels, ``[N, 2]``."""
        ...

    def __len__(self) -> int: ...

    def __getitem__(self, rows: Rows) -> NDArray[np.uint8]:
        """Return the centres of images, ``[n, C, H, W]``, as `hwnas.data.images.fit_image` does."""
        ...

    def crops(self, rows: NDArray[np.int64], boxes: NDArray[np.float32]) -> NDArray[np.uint8]:
        """Return a box of each image, resized with antialiasing to ``[n, C, H, W]``.

        ``boxes`` is ``[n, 4]``: left, top, right and bottom as shares, 0 to 1, of width and height.
        """
        ...

    def subset(self, rows: NDArray[np.int64]) -> Self:
        """Return the images of these rows; no pixel is read."""
        ...


class Photos(Protocol):
    """Encoded images of any size and mode, each opened when it is used."""

    def __len__(self) -> int: ...

    def name(self, row: int) -> str:
        """Return what messages call the image: its file."""
        ...

    def open(self, row: int) -> AbstractContextManager[Image]:
        """Open an image in the orientation that its tag says. Raises `InvalidFile`."""
        ...


class DecodedImages:
    """Photos that are decoded each time they are indexed."""

    def __init__(
        self,
        photos: Photos,
        sizes: NDArray[np.int32],
        shape: Shape,
        rows: NDArray[np.int64] | None = None,
    ) -> None:
        """``sizes`` are those of all photos; ``rows`` are the photos that this set has."""
        self.photos, self.all_sizes, self.image_shape = photos, sizes, shape
        self.rows = np.arange(len(photos)) if rows is None else rows

    @property
    def shape(self) -> tuple[int, int, int, int]:
        return len(self.rows), *self.image_shape

    @property
    def sizes(self) -> NDArray[np.int32]:
        return self.all_sizes[self.rows]

    def __len__(self) -> int:
        return len(self.rows)

    def __getitem__(self, rows: Rows) -> NDArray[np.uint8]:
        return stacked((self._read(row, fit_image) for row in self.rows[rows]), self.image_shape)

    def crops(self, rows: NDArray[np.int64], boxes: NDArray[np.float32]) -> NDArray[np.uint8]:
        images = (
            self._read(row, lambda image, shape, box=box: crop_image(image, box, shape))
            for row, box in zip(self.rows[rows], boxes.tolist(), strict=True)
        )
        return stacked(images, self.image_shape)

    def subset(self, rows: NDArray[np.int64]) -> Self:
        return type(self)(self.photos, self.all_sizes, self.image_shape, self.rows[rows])

    def _read(self, row: int, fit: Callable[[Image, Shape], np.ndarray]) -> np.ndarray:
        with self.photos.open(int(row)) as image:
            return fit(to_grey_or_rgb(image), self.image_shape)


def stacked(images: Iterable[np.ndarray], shape: Shape) -> NDArray[np.uint8]:
    """Return images ``[C, H, W]`` as uint8 ``[n, C, H, W]``, also where there is none."""
    planes: Sequence[np.ndarray] = list(images)
    return np.stack(planes) if planes else np.empty((0, *shape), dtype=np.uint8)
