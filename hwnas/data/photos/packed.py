"""Packed data sets: one file with the copies of all photos, uncompressed.

A header of 4 KiB (JSON, padded with spaces), the pixels, then offsets uint64 ``[N + 1]``, sizes of
copies and of photos int32 ``[N, 2]`` each, labels int64 ``[N]``, splits uint8 ``[N]``, moments
uint64 ``[N, C, 2]``, and names and classes as JSON. Opening a file reads no pixels.
"""

from __future__ import annotations

from hashlib import sha256
from pathlib import Path
from typing import NamedTuple, NoReturn

import msgspec
import numpy as np
from numpy.typing import NDArray

from hwnas.data.images import Shape
from hwnas.data.photos.flat import Bytes, FileBytes, FlatImages, Layout
from hwnas.data.photos.labelled import PARTS, TRAIN, LabelledPhotos
from hwnas.data.splits import Source, Split, Statistics
from hwnas.errors import InvalidFile

FORMAT = "hwnas packed images 1"
HEADER_BYTES = 4096
ALIGNMENT = 64
PACKED_SUFFIX = ".packed"


class Header(msgspec.Struct, frozen=True):
    """The header of a packed file."""

    format: str
    key: str
    """`LabelledPhotos.key` of the photos."""
    shape: Shape
    """Shape of the network's input; the copies are a little larger."""
    own_shape: Shape
    """Default shape of a network's input."""
    count: int
    pixel_bytes: int
    tail_bytes: int = 0
    """Bytes after the arrays; 0 while the file is being written."""
    digest: str = ""
    """Digest of all pixels."""

    def arrays(self) -> dict[str, tuple[int, str, tuple[int, ...]]]:
        """Return position, type and shape of each array."""
        count, channels = self.count, self.shape[0]
        place = -(-(HEADER_BYTES + self.pixel_bytes) // ALIGNMENT) * ALIGNMENT
        result: dict[str, tuple[int, str, tuple[int, ...]]] = {}
        for name, kind, shape in (
            ("offsets", "<u8", (count + 1,)),
            ("sizes", "<i4", (count, 2)),
            ("originals", "<i4", (count, 2)),
            ("labels", "<i8", (count,)),
            ("moments", "<u8", (count, channels, 2)),
            ("parts", "|u1", (count,)),
        ):
            result[name] = place, kind, shape
            place += np.dtype(kind).itemsize * int(np.prod(shape))
        return result

    @property
    def tail_start(self) -> int:
        place, _, shape = self.arrays()["parts"]
        return place + shape[0]


class Tail(msgspec.Struct, frozen=True):
    """The part of a packed file that has no fixed size."""

    name: str
    classes: tuple[str, ...]
    notes: tuple[str, ...]
    broken: dict[str, str]
    """Reason why a photo was left out, by its name."""


class Copies(NamedTuple):
    """The copies of all photos of a data set, in memory or in a file."""

    layout: Layout
    pixels: Bytes
    moments: NDArray[np.uint64]
    digest: str
    broken: dict[str, str]
    """Reason why a photo was left out, by its name."""

    def source(self, photos: LabelledPhotos) -> Source:
        """Return the data set of these copies with the splits of ``photos``."""
        rows = part_rows(photos, self.layout.sizes)
        train, valid, test = (
            Split(FlatImages(self.layout, self.pixels, part), photos.labels[part]) for part in rows
        )
        notes = (*photos.notes, *skipped_note(len(self.broken)))
        statistics = self._statistics(photos, rows)
        return Source(
            photos.name,
            photos.classes,
            train,
            test,
            valid,
            notes,
            statistics,
            photos.answers_of,
        )

    def _statistics(self, photos: LabelledPhotos, rows: list[NDArray[np.int64]]) -> Statistics:
        hasher = sha256("\0".join((*photos.classes, self.digest)).encode())
        hasher.update(repr(self.layout.shape).encode())
        for part in rows:
            hasher.update(part.astype("<i8").tobytes())
            hasher.update(photos.labels[part].astype("<i8").tobytes())
        train = rows[TRAIN]
        count = self.layout.sizes[train].astype(np.float64).prod(axis=1).sum()
        mean, square = self.moments[train].sum(axis=0).T / count / np.array([[255], [255**2]])
        std = np.sqrt(np.maximum(square - mean**2, 255.0**-2))
        return Statistics(hasher.hexdigest()[:16], tuple(mean.tolist()), tuple(std.tolist()))


def part_rows(photos: LabelledPhotos, sizes: NDArray[np.int32]) -> list[NDArray[np.int64]]:
    """Return the rows of each split, without photos of size 0, which were left out.

    Raises `InvalidFile` if a class has no photo in a split, unless the labels are predictions of a
    network.
    """
    parts = [np.flatnonzero((photos.parts == part) & (sizes[:, 0] > 0)) for part in range(3)]
    for rows, name in zip(parts, PARTS, strict=True):
        if photos.answers_of:
            continue
        absent = np.setdiff1d(np.arange(len(photos.classes)), photos.labels[rows])
        if absent.size:
            why = f"class {photos.classes[absent[0]]!r} has no readable {name} image"
            raise InvalidFile(photos.where, f"{why}, expected at least 1")
    return parts


def skipped_note(count: int) -> tuple[str, ...]:
    """Return the remark for the report on photos that were left out."""
    images, verb = ("1 image that", "was") if count == 1 else (f"{count} images that", "were")
    return (f"{images} could not be read {verb} left out",) * bool(count)


def read_header(path: Path) -> Header:
    """Read the header of a complete file. Raises `InvalidFile`."""
    try:
        with path.open("rb") as file:
            content, size = file.read(HEADER_BYTES), path.stat().st_size
        header = msgspec.json.decode(content, type=Header)
    except OSError as error:
        raise InvalidFile(str(path), error.strerror or str(error)) from None
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise InvalidFile(str(path), f"not a packed data set ({error})") from None
    if header.format != FORMAT:
        raise InvalidFile(str(path), f"is {header.format!r}, expected {FORMAT!r}: pack it again")
    expected = header.tail_start + header.tail_bytes
    if not header.tail_bytes or size != expected:
        raise InvalidFile(str(path), f"has {size} bytes, expected {expected}: pack it again")
    return header


def read_copies(path: Path) -> tuple[Copies, LabelledPhotos]:
    """Open a file. The photos have the labels and splits of when it was packed."""
    header = read_header(path)
    with path.open("rb") as file:
        arrays: dict[str, np.ndarray] = {}
        for name, (place, kind, shape) in header.arrays().items():
            file.seek(place)
            arrays[name] = np.fromfile(file, kind, int(np.prod(shape))).reshape(shape)
        try:
            tail = msgspec.json.decode(file.read(header.tail_bytes), type=Tail)
        except (msgspec.DecodeError, UnicodeDecodeError) as error:
            raise InvalidFile(str(path), f"not a packed data set ({error})") from None
    layout = Layout(header.shape, arrays["originals"], arrays["sizes"], arrays["offsets"])
    pixels = FileBytes(path, HEADER_BYTES)
    copies = Copies(layout, pixels, arrays["moments"], header.digest, tail.broken)
    return copies, LabelledPhotos(
        str(path),
        tail.name,
        tail.classes,
        _NoPhotos(),
        arrays["labels"],
        arrays["parts"],
        tail.notes,
    )


class _NoPhotos:
    """The photos of a packed file without its original photos."""

    def __len__(self) -> int:
        return 0

    def name(self, row: int) -> str:
        raise IndexError(row)

    def open(self, row: int) -> NoReturn:
        raise IndexError(row)

    def size_bytes(self, row: int) -> int:
        raise IndexError(row)

    def content(self, row: int) -> NoReturn:
        raise IndexError(row)

    def state(self) -> bytes:
        return b""
