"""Images that are read when they are indexed, beside numpy arrays ``[N, C, H, W]`` in memory."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Protocol, Self

import numpy as np
from numpy.typing import NDArray

from hwnas.data.images import Shape

Rows = slice | NDArray[np.int64]


class StoredImages(Protocol):
    """Images larger than memory, or of more pixels than the network takes.

    Every method may be called from several threads at once; reading, decoding and resizing release
    Python's lock, so threads read on several cores.
    """

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


def share_box(shares: Sequence[float], width: int, height: int) -> tuple[float, ...]:
    """Return left, top, right and bottom in pixels of a box that is given in shares."""
    sides = width, height, width, height
    return tuple(
        min(max(share, 0.0), 1.0) * side for share, side in zip(shares, sides, strict=True)
    )


def stacked(images: Iterable[np.ndarray], count: int, shape: Shape) -> NDArray[np.uint8]:
    """Return ``count`` images ``[C, H, W]`` as uint8 ``[n, C, H, W]``."""
    result = np.empty((count, *shape), dtype=np.uint8)
    for index, image in enumerate(images):
        result[index] = image
    return result
