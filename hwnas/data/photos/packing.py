"""Writes packed data sets in chunks, so that a packing that was killed continues where it stopped.

``FILE.part`` is written first, with a journal of the complete chunks beside it, and renamed when it
is complete.
"""

from __future__ import annotations

import fcntl
import os
import re
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from hashlib import blake2b
from pathlib import Path

import msgspec
import numpy as np

from hwnas.data.images import Shape
from hwnas.data.photos.copying import CHUNK_PHOTOS, Chunk, Headers, copy_photos
from hwnas.data.photos.flat import Layout, layout_of
from hwnas.data.photos.labelled import LabelledPhotos, ReadingOptions
from hwnas.data.photos.packed import FORMAT, HEADER_BYTES, PACKED_SUFFIX, Header, Tail, read_header
from hwnas.errors import HwnasError, UsageError, WriteError
from hwnas.files import append_line, home, read_lines, writing

SPARE_BYTES = 1_000_000_000
"""Free space that a packing leaves on the disk."""


def cache_path(photos: LabelledPhotos, key: str, shape: Shape) -> Path:
    """Return where the packed copies of photos for a network of that input shape are."""
    size = "x".join(map(str, shape))
    name = re.sub(r"[^\w.-]+", "-", photos.name)
    return home() / "cache" / "packed" / f"{name}-{key}-{size}{PACKED_SUFFIX}"


def missing_bytes(path: Path, layout: Layout) -> int:
    """Return the bytes that the disk lacks to pack these copies; 0 if there is enough space."""
    folder = path.parent
    while not folder.exists():
        folder = folder.parent
    part = _part(path)
    written = part.stat().st_blocks * 512 if part.exists() else 0
    needed = layout.pixel_bytes + SPARE_BYTES - written
    return max(needed - shutil.disk_usage(folder).free, 0)


def pack(
    photos: LabelledPhotos,
    headers: Headers,
    shape: Shape,
    key: str,
    path: Path,
    options: ReadingOptions,
) -> None:
    """Write the packed file of the photos unless it is there; wait for another process's.

    Raises `UsageError` if the file is of other photos, `HwnasError` if the disk is full; the next
    attempt continues with the chunks that are packed.
    """
    layout = layout_of(headers.sizes, shape)
    with _locked(path):
        if path.exists():
            _check_same(path, key, shape)
            return
        if missing := missing_bytes(path, layout):
            size = layout.pixel_bytes / 1e9
            raise HwnasError(
                f"{path.parent}: packing takes {size:.1f} GB, and {missing / 1e9:.1f} GB more "
                "must be free on that disk; free some, or name another file with --out"
            )
        options.say(
            f"{photos.where}: {len(photos.labels)} images, {layout.pixel_bytes / 1e9:.1f} GB, are "
            f"packed into {path}"
        )
        header = Header(
            FORMAT, key, shape, headers.own_shape, len(photos.labels), layout.pixel_bytes
        )
        try:
            with writing(path):
                _write(photos, headers, layout, header, path, options)
        except WriteError as error:
            if not error.can_resume:
                raise
            raise HwnasError(
                f"{path}: the disk is full; free some space and start again, and packing goes on "
                "where it stopped"
            ) from None


def _check_same(path: Path, key: str, shape: Shape) -> None:
    """Raise `UsageError` if the file is of other photos, or of an earlier state of these."""
    header = read_header(path)
    if (header.key, header.shape) != (key, shape):
        raise UsageError(
            f"{path}: is a packed file of other images, or they have changed; delete it or name "
            "another file with --out"
        )


def _write(
    photos: LabelledPhotos,
    headers: Headers,
    layout: Layout,
    header: Header,
    path: Path,
    options: ReadingOptions,
) -> None:
    part = PartFile(path, header)
    try:
        with options.step("packing images") as progress:
            copy_photos(photos.photos, layout, part, part.done, progress)
        broken = {row: why for chunk in part.done.values() for row, why in chunk.broken.items()}
        sizes = layout.sizes.copy()
        sizes[list(broken)] = 0
        names = photos.named(headers.broken | broken)
        options.refuse(photos.where, names, len(photos.labels))
        notes = (*photos.notes, *headers.notes(layout.shape))
        tail = Tail(photos.name, photos.classes, notes, names)
        arrays = {
            "offsets": layout.offsets,
            "sizes": sizes,
            "originals": layout.originals,
            "labels": photos.labels,
            "parts": photos.parts,
        }
        part.complete(arrays, tail)
    finally:
        part.close()


class PartFile:
    """A packed file that is being written, see `hwnas.data.photos.copying.Target`."""

    def __init__(self, path: Path, header: Header) -> None:
        self.path, self.header = path, header
        self.part, self.journal = _part(path), path.with_name(f"{path.name}.journal")
        self.done = {chunk.index: chunk for chunk in read_lines(self.journal, Chunk)}
        if not self.part.exists() or self._stored_header() != _block(header):
            self.done = {}
            self.journal.unlink(missing_ok=True)
            self.part.write_bytes(_block(header))
        self._descriptor = os.open(self.part, os.O_RDWR)
        os.ftruncate(self._descriptor, header.tail_start)
        place, kind, shape = header.arrays()["moments"]
        stored = os.pread(self._descriptor, 8 * int(np.prod(shape)), place)
        self.moments = np.frombuffer(stored, kind).reshape(shape).copy()

    def write(self, start: int, pixels: bytes) -> None:
        _write_all(self._descriptor, pixels, HEADER_BYTES + start)

    def finish(self, chunk: Chunk) -> None:
        start = chunk.index * CHUNK_PHOTOS
        moments = self.moments[start : start + CHUNK_PHOTOS]
        place = self.header.arrays()["moments"][0] + start * self.moments[0].nbytes
        _write_all(self._descriptor, moments.tobytes(), place)
        os.fdatasync(self._descriptor)
        append_line(self.journal, chunk)
        self.done[chunk.index] = chunk

    def complete(self, arrays: dict[str, np.ndarray], tail: Tail) -> None:
        for name, array in arrays.items():
            place, kind, _ = self.header.arrays()[name]
            _write_all(self._descriptor, array.astype(kind).tobytes(), place)
        content = msgspec.json.encode(tail)
        _write_all(self._descriptor, content, self.header.tail_start)
        header = msgspec.structs.replace(
            self.header, tail_bytes=len(content), digest=digest_of(self.done)
        )
        _write_all(self._descriptor, _block(header), 0)
        os.fsync(self._descriptor)
        os.replace(self.part, self.path)
        self.journal.unlink(missing_ok=True)

    def close(self) -> None:
        os.close(self._descriptor)

    def _stored_header(self) -> bytes:
        with self.part.open("rb") as file:
            return file.read(HEADER_BYTES)


def digest_of(chunks: dict[int, Chunk]) -> str:
    """Return the digest of all copies."""
    hasher = blake2b(digest_size=16)
    for index in sorted(chunks):
        hasher.update(chunks[index].digest.encode())
    return hasher.hexdigest()


def _part(path: Path) -> Path:
    return path.with_name(f"{path.name}.part")


def _block(header: Header) -> bytes:
    return msgspec.json.encode(header).ljust(HEADER_BYTES)


def _write_all(descriptor: int, content: bytes, place: int) -> None:
    view = memoryview(content)
    while view:
        written = os.pwrite(descriptor, view, place)
        view, place = view[written:], place + written


@contextmanager
def _locked(path: Path) -> Iterator[None]:
    """Wait until no other process packs this file."""
    lock = path.with_name(f"{path.name}.lock")
    with writing(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        file = lock.open("w")
    with file:
        fcntl.flock(file, fcntl.LOCK_EX)
        try:
            yield
        finally:
            lock.unlink(missing_ok=True)
