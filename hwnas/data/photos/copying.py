"""Copies of all photos of a data set, made in chunks by several threads."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator
from concurrent.futures import ThreadPoolExecutor
from hashlib import blake2b
from typing import NamedTuple, Protocol, TypeVar

import msgspec
import numpy as np
from numpy.typing import NDArray

from hwnas.data.images import GREY_MODES, Shape, common_shape, fitting_notes
from hwnas.data.photos.flat import Layout
from hwnas.data.photos.labelled import Photos, Progress, ReadingOptions, no_progress
from hwnas.data.photos.reading import decoded, oriented_size, shrunk
from hwnas.errors import InvalidFile
from hwnas.processes import cores

T = TypeVar("T")

CHUNK_PHOTOS = 256
"""Photos of a chunk, about 70 MB of copies of 256 px, which is lost if a packing is killed."""

MANY_PHOTOS = 20_000
"""Photos whose headers take so long that progress is shown."""


class Headers(NamedTuple):
    """Data from the headers of all photos."""

    sizes: NDArray[np.int32]
    """Height and width as viewed, ``[N, 2]``; 0 where a photo can't be read."""
    grey: bool
    broken: dict[int, str]
    """Reasons why photos cannot be read, by row."""

    @property
    def counts(self) -> dict[tuple[int, int], int]:
        """Number of photos of each size ``(H, W)``."""
        readable = self.sizes[self.sizes[:, 0] > 0]
        sizes, counts = np.unique(readable, axis=0, return_counts=True)
        pairs = ((height, width) for height, width in sizes.tolist())
        return dict(zip(pairs, counts.tolist(), strict=True))

    @property
    def own_shape(self) -> Shape:
        """The shape of the photos, see `common_shape`."""
        return common_shape(self.counts, self.grey)

    def notes(self, shape: Shape) -> tuple[str, ...]:
        """Return remarks on what changes in the photos that are fitted to ``shape``."""
        return fitting_notes(self.counts, self.grey, shape)


class Chunk(msgspec.Struct, frozen=True):
    """A chunk whose copies are written."""

    index: int
    digest: str
    broken: dict[int, str]


class Target(Protocol):
    """Where copies are written to, from several threads."""

    moments: NDArray[np.uint64]
    """Sums of the pixels of each copy and of their squares, ``[N, C, 2]``."""

    def write(self, start: int, pixels: bytes) -> None: ...

    def finish(self, chunk: Chunk) -> None:
        """Called when a chunk is completely written."""
        ...


def read_headers(photos: Photos, options: ReadingOptions) -> Headers:
    """Open every photo, without reading pixels."""

    def size(row: int) -> tuple[tuple[int, int], bool] | InvalidFile:
        try:
            with photos.open(row) as image:
                return oriented_size(image), image.mode in GREY_MODES
        except InvalidFile as error:
            return error

    sizes = np.zeros((len(photos), 2), dtype=np.int32)
    grey, broken = True, dict[int, str]()
    step = options.step if len(photos) >= MANY_PHOTOS else no_progress
    with step("headers of the images") as progress:
        for rows, headers in _chunks(photos, size, progress):
            for row, header in zip(rows, headers, strict=True):
                if isinstance(header, InvalidFile):
                    broken[row] = header.why
                else:
                    sizes[row], grey = header[0], grey and header[1]
    return Headers(sizes, grey, broken)


def copy_photos(
    photos: Photos,
    layout: Layout,
    target: Target,
    done: Collection[int],
    progress: Progress,
) -> None:
    """Write the copies of all photos but those of the chunks that are ``done``."""

    def copy(row: int) -> bytes | InvalidFile:
        start, end = layout.span(row)
        if start == end:  # its header was broken
            return b""
        try:
            with photos.open(row) as image:
                picture = shrunk(decoded(image), layout.shape)
                if (picture.height, picture.width) != tuple(layout.sizes[row]):
                    raise ValueError("its pixels have another size than its header says")
        except InvalidFile as error:
            return error
        pixels = picture.tobytes()
        target.moments[row] = _moments(picture.histogram(), layout.shape[0])
        target.write(start, pixels)
        return blake2b(pixels, digest_size=16).digest()

    for rows, digests in _chunks(photos, copy, progress, done):
        broken: dict[int, str] = {}
        hasher = blake2b(layout.originals[rows.start : rows.stop].tobytes(), digest_size=16)
        for row, digest in zip(rows, digests, strict=True):
            if isinstance(digest, InvalidFile):
                broken[row] = digest.why
            hasher.update(b"" if isinstance(digest, InvalidFile) else digest)
        target.finish(Chunk(rows.start // CHUNK_PHOTOS, hasher.hexdigest(), broken))


def broken_pixels(photos: Photos, headers: Headers, options: ReadingOptions) -> dict[int, str]:
    """Decode every photo with an intact header; return the errors by row."""

    def check(row: int) -> str | None:
        if row in headers.broken:
            return None
        try:
            with photos.open(row) as image:
                image.draft("L", (1, 1))  # a JPEG decodes faster at an eighth of its size
                decoded(image)
        except InvalidFile as error:
            return error.why
        return None

    broken: dict[int, str] = {}
    step = options.step if len(photos) >= MANY_PHOTOS else no_progress
    with step("checking images") as progress:
        for rows, reasons in _chunks(photos, check, progress):
            broken |= {row: why for row, why in zip(rows, reasons, strict=True) if why is not None}
    return broken


def _moments(histogram: list[int], channels: int) -> NDArray[np.uint64]:
    """Return the sum of the values and of their squares for each channel, ``[C, 2]``."""
    counts = np.array(histogram, dtype=np.uint64).reshape(channels, 256)
    values = np.arange(256, dtype=np.uint64)
    return np.stack([counts @ values, counts @ values**2], axis=1)


def _chunks(
    photos: Photos,
    apply: Callable[[int], T],
    progress: Progress,
    done: Collection[int] = (),
) -> Iterator[tuple[range, list[T]]]:
    """Apply a function to all rows on all cores; yield the rows of each chunk with the results."""
    with ThreadPoolExecutor(cores()) as pool:
        for index, start in enumerate(range(0, len(photos), CHUNK_PHOTOS)):
            rows = range(start, min(start + CHUNK_PHOTOS, len(photos)))
            if index not in done:
                yield rows, list(pool.map(apply, rows))
            progress(rows.stop, len(photos), "")
