"""Where the pixels of a data set of photos are held, chosen by size.

=========  ===================================================================================
memory     copies of all photos, where they are small beside the machine's memory
packed     the same copies in a file (`hwnas.data.photos.packed`), where the disk has room
files      nothing is held: photos are decoded each time they are used
=========  ===================================================================================

All three give the same pixels of training images. Validation and test images are fitted to the
network's input from their copies, but in the first tier from the photos themselves. Photos that all
have the size of the network's input are held as arrays.
"""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from hashlib import sha256
from pathlib import Path

import numpy as np
import psutil
from numpy.typing import NDArray

from hwnas.data.images import Shape, fit_image
from hwnas.data.photos.copying import (
    MANY_PHOTOS,
    Chunk,
    Headers,
    broken_pixels,
    copy_photos,
    read_headers,
)
from hwnas.data.photos.decoding import DecodedImages, PhotoSet
from hwnas.data.photos.flat import Layout, MemoryBytes, layout_of
from hwnas.data.photos.labelled import (
    TEST,
    TRAIN,
    VALID,
    LabelledPhotos,
    ReadingOptions,
    no_progress,
)
from hwnas.data.photos.packed import Copies, part_rows, read_copies, read_header, skipped_note
from hwnas.data.photos.packing import cache_path, digest_of, missing_bytes, pack
from hwnas.data.photos.reading import decoded
from hwnas.data.splits import Origin, Source, Split, Statistics, moments
from hwnas.errors import InvalidFile, WriteError
from hwnas.files import read_json, write_json
from hwnas.processes import cores, local_ranks

MEMORY_SHARE = 1 / 8
"""Share of the machine's memory that copies may take: several trainings may run at once, and each
process has its own. The ranks of ``torchrun`` have it together."""

Broken = dict[int, str]
"""Why photos can't be read, by row."""

SAMPLE_PHOTOS = 500
"""Training photos from which mean and standard deviation are taken where nothing is held."""


def read_photos(photos: LabelledPhotos, shape: Shape | None, options: ReadingOptions) -> Source:
    """Return the data set of photos, for the input shape of a network or else the photos' own."""
    source, sizes = _read(photos, shape, options)
    origin = Origin(photos.photos, photos.labels, photos.parts, sizes)
    return source._replace(split=photos.split, origin=origin)


def _read(
    photos: LabelledPhotos, shape: Shape | None, options: ReadingOptions
) -> tuple[Source, NDArray[np.int32]]:
    """Return the data set, and the photos' heights and widths, ``[N, 2]``."""
    key = photos.key()
    options = _with_earlier_choice(photos, key, options)
    if (path := packed_file(photos, key, shape)) is not None:
        options.say(f"{photos.where}: packed images of {path}")
        return _packed(photos, path)
    headers = _checked_headers(photos, options)
    shape = shape or headers.own_shape
    layout = layout_of(headers.sizes, shape)
    limit_bytes = memory_limit_bytes()
    if layout.pixel_bytes <= limit_bytes:
        return _in_memory(photos, headers, layout, options), headers.sizes
    large = f"{layout.pixel_bytes / 1e9:.1f} GB of images, over {limit_bytes / 1e9:.1f} GB"
    path = cache_path(photos, key, shape)
    if missing := missing_bytes(path, layout):
        options.say(
            f"{photos.where}: {large}, are decoded each time they are used, as a packed file needs "
            f"{missing / 1e9:.1f} GB more free on the disk of {path.parent}"
        )
        return _on_use(photos, headers, shape, options), headers.sizes
    pack(photos, headers, shape, key, path, options)
    return _packed(photos, path)


def _packed(photos: LabelledPhotos, path: Path) -> tuple[Source, NDArray[np.int32]]:
    copies = read_copies(path)[0]
    return copies.source(photos), copies.layout.originals


def pack_photos(
    photos: LabelledPhotos, size: int | None, path: Path | None, options: ReadingOptions
) -> Path:
    """Pack photos for networks of ``size`` pixels, or else the photos' own; return the file.

    Without a ``path`` it is where runs on the same photos find it.
    """
    key = photos.key()
    options = _with_earlier_choice(photos, key, options)
    headers = _checked_headers(photos, options)
    shape = headers.own_shape if size is None else (headers.own_shape[0], size, size)
    path = path or cache_path(photos, key, shape)
    pack(photos, headers, shape, key, path, options)
    return path


def broken_photos(photos: LabelledPhotos, headers: Headers, options: ReadingOptions) -> Broken:
    """Return why photos can't be read, by row; their pixels are decoded once for all runs."""
    path = cache_path(photos, photos.key(), (0, 0, 0)).with_suffix(".checked")
    if path.exists():
        return read_json(path, Broken)
    broken = headers.broken | broken_pixels(photos.photos, headers, options)
    with suppress(WriteError):  # the next run decodes them again
        write_json(path, broken)
    return broken


def _checked_headers(photos: LabelledPhotos, options: ReadingOptions) -> Headers:
    """Return what the headers say. Raises `InvalidFile` with all photos that can't be read.

    Of many photos only headers are checked here, which takes minutes and not hours.
    """
    headers, total = read_headers(photos.photos, options), len(photos.labels)
    broken = headers.broken
    if len(broken) == total:
        name, reason = min(photos.named(broken).items())
        why = f"none of its {total} images can be read ({name}: {reason})"
        raise InvalidFile(photos.where, why)
    if broken and not options.skip_broken:
        if total <= MANY_PHOTOS:
            broken = broken_photos(photos, headers, options)
        options.refuse(photos.where, photos.named(broken), total)
    return headers


def _with_earlier_choice(
    photos: LabelledPhotos, key: str, options: ReadingOptions
) -> ReadingOptions:
    """Return the options; photos of which broken ones were skipped once, are read so again.

    The processes of a run, and a resumed one, so have the images that it began with.
    """
    marker = cache_path(photos, key, (0, 0, 0)).with_suffix(".skip-broken")
    if not options.skip_broken:
        return options._replace(skip_broken=marker.exists())
    if options.remember:
        marker.parent.mkdir(parents=True, exist_ok=True)
        marker.touch()
    return options


def read_packed(path: Path, shape: Shape | None) -> Source:
    """Return the data set of a packed file. Raises `InvalidFile` if it has another shape."""
    copies, photos = read_copies(path)
    if shape not in (None, copies.layout.shape):
        shapes = ("x".join(map(str, each)) for each in (copies.layout.shape, shape))
        why = "is packed for images of {}, expected {}: pack it again with --size"
        raise InvalidFile(str(path), why.format(*shapes))
    return copies.source(photos)


def packed_file(photos: LabelledPhotos, key: str, shape: Shape | None) -> Path | None:
    """Return the packed file of the photos for a shape, None if there is none."""
    if shape is not None:
        path = cache_path(photos, key, shape)
        return path if path.exists() else None
    pattern = cache_path(photos, key, (0, 0, 0))
    for path in sorted(pattern.parent.glob(pattern.name.replace("0x0x0", "*"))):
        header = read_header(path)
        if header.shape == header.own_shape:
            return path
    return None


def memory_limit_bytes() -> float:
    """Return how many bytes of copies a process holds in memory."""
    total = psutil.virtual_memory().total
    with suppress(OSError, ValueError):  # no control group, or one without a limit
        total = min(total, int(Path("/sys/fs/cgroup/memory.max").read_text()))
    return MEMORY_SHARE * total / local_ranks()


class _MemoryTarget:
    def __init__(self, layout: Layout) -> None:
        self.moments = np.zeros((len(layout.sizes), layout.shape[0], 2), dtype=np.uint64)
        self.pixels = np.zeros(layout.pixel_bytes, dtype=np.uint8)
        self.done: dict[int, Chunk] = {}

    def write(self, start: int, pixels: bytes) -> None:
        self.pixels[start : start + len(pixels)] = np.frombuffer(pixels, dtype=np.uint8)

    def finish(self, chunk: Chunk) -> None:
        self.done[chunk.index] = chunk


def _in_memory(
    photos: LabelledPhotos, headers: Headers, layout: Layout, options: ReadingOptions
) -> Source:
    target = _MemoryTarget(layout)
    step = options.step if len(photos.labels) >= MANY_PHOTOS else no_progress
    with step("decoding images") as progress:
        copy_photos(photos.photos, layout, target, (), progress)
    broken = {row: why for chunk in target.done.values() for row, why in chunk.broken.items()}
    layout.sizes[list(broken)] = 0
    names = photos.named(headers.broken | broken)
    options.refuse(photos.where, names, len(photos.labels))
    digest = digest_of(target.done)
    copies = Copies(layout, MemoryBytes(target.pixels), target.moments, digest, names)
    notes = (*photos.notes, *headers.notes(layout.shape))
    source = copies.source(photos._replace(notes=notes))
    rows = part_rows(photos, layout.sizes)
    if (layout.originals[layout.originals[:, 0] > 0] == layout.shape[1:]).all():
        return _arrays(source, photos, rows, target.pixels, layout)
    valid, test = (_fitted(photos, rows[part], layout.shape) for part in (VALID, TEST))
    return source._replace(valid=valid, test=test)


def _arrays(
    source: Source,
    photos: LabelledPhotos,
    rows: list[NDArray[np.int64]],
    pixels: NDArray[np.uint8],
    layout: Layout,
) -> Source:
    """Return photos of the size of the network's input as arrays."""
    channels, height, width = layout.shape
    images = np.zeros((len(layout.sizes), height, width, channels), dtype=np.uint8)
    images[layout.originals[:, 0] > 0] = pixels.reshape(-1, height, width, channels)
    train, valid, test = (np.ascontiguousarray(images[part].transpose(0, 3, 1, 2)) for part in rows)
    labels = [photos.labels[part] for part in rows]
    return source._replace(
        train=Split(train, labels[TRAIN]),
        valid=Split(valid, labels[VALID]),
        test=Split(test, labels[TEST]),
        statistics=None,
    )


def _fitted(photos: LabelledPhotos, rows: NDArray[np.int64], shape: Shape) -> Split:
    """Return photos as an array, fitted to the network's input."""
    images = np.empty((len(rows), *shape), dtype=np.uint8)

    def fit(place: int) -> None:
        with photos.photos.open(int(rows[place])) as image:
            images[place] = fit_image(decoded(image), shape)

    with ThreadPoolExecutor(cores()) as pool:
        list(pool.map(fit, range(len(rows))))
    return Split(images, photos.labels[rows])


def _on_use(
    photos: LabelledPhotos, headers: Headers, shape: Shape, options: ReadingOptions
) -> Source:
    broken = broken_photos(photos, headers, options)
    options.refuse(photos.where, photos.named(broken), len(photos.labels))
    sizes = headers.sizes.copy()
    sizes[list(broken)] = 0
    every = PhotoSet(photos.photos, photos.labels, sizes, shape, options)
    rows = part_rows(photos, sizes)
    train, valid, test = (Split(DecodedImages(every, part), photos.labels[part]) for part in rows)
    notes = (*photos.notes, *headers.notes(shape), *skipped_note(len(broken)))
    digest = sha256("/".join((photos.key(), repr(shape), repr(len(broken)))).encode())
    digest.update(photos.parts.tobytes())
    sample = Split(train.images[:SAMPLE_PHOTOS], train.labels[:SAMPLE_PHOTOS])
    statistics = Statistics(digest.hexdigest()[:16], *moments(sample))
    return Source(
        photos.name, photos.classes, train, test, valid, notes, statistics, photos.answers_of
    )
