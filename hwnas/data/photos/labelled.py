"""Photos with their labels and splits, as every source of photos gives them."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager
from hashlib import blake2b
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple, Protocol

import numpy as np
from numpy.typing import NDArray

from hwnas.data.photos.reading import READING_VERSION, opened
from hwnas.errors import InvalidFile
from hwnas.files import printable, read_bytes

if TYPE_CHECKING:
    from PIL.Image import Image

MAX_LISTED = 20
"""Most unreadable photos that a message lists."""

PARTS = ("train", "valid", "test")
TRAIN, VALID, TEST = range(3)


class Photos(Protocol):
    """Encoded images of any size and mode, each opened when it is used, by several threads."""

    def __len__(self) -> int: ...

    def name(self, row: int) -> str:
        """Return the name of the image in messages: its file."""
        ...

    def open(self, row: int) -> AbstractContextManager[Image]:
        """Open an image. Raises `InvalidFile`, also for what its decoder raises in the body."""
        ...

    def size_bytes(self, row: int) -> int:
        """Return the size of the encoded image, without reading it."""
        ...

    def content(self, row: int) -> bytes:
        """Return the encoded image. Raises `InvalidFile`."""
        ...

    def state(self) -> bytes:
        """Return names, sizes and times of all images, by which changed images are noticed."""
        ...


class LabelledPhotos(NamedTuple):
    """A data set of photos, shuffled, with a class and a split for each photo."""

    where: str
    """Name of the data set in messages: its folder or file."""
    name: str
    classes: tuple[str, ...]
    photos: Photos
    labels: NDArray[np.int64]
    parts: NDArray[np.uint8]
    """`TRAIN`, `VALID` or `TEST` for each photo."""
    notes: tuple[str, ...] = ()
    answers_of: str = ""
    """Network whose predictions replace the labels; empty for true labels."""
    split: str = ""
    """How the splits were made."""

    def named(self, broken: Mapping[int, str]) -> dict[str, str]:
        """Return the reasons why photos can't be read by their names, in the order of names."""
        return dict(sorted((self.photos.name(row), why) for row, why in broken.items()))

    def key(self) -> str:
        """Return 16 hex digits that change with the photos, their labels and how they are read."""
        hasher = blake2b(digest_size=8)
        words = (str(READING_VERSION), *self.classes)
        for content in ("\0".join(words).encode(), self.labels.tobytes(), self.photos.state()):
            hasher.update(blake2b(content).digest())
        return hasher.hexdigest()


Progress = Callable[[float, float, str], None]
"""Called with the photos done, their number and a remark."""


@contextmanager
def no_progress(title: str) -> Iterator[Progress]:
    yield lambda done, total, remark: None


class ReadingOptions(NamedTuple):
    """Options of reading photos, and callbacks for messages and progress."""

    skip_broken: bool = False
    """Leave out photos that can't be read, instead of raising `InvalidFile`."""
    say: Callable[[str], None] = lambda text: None
    step: Callable[[str], AbstractContextManager[Progress]] = no_progress
    """Returns a context that shows the progress of a step of minutes."""
    group_by: str = ""
    """Photos of one group stay in one split: a regular expression that finds the group in the name
    of a photo, or a column of a list or table. Empty: every photo is its own group."""
    remember: bool = True
    """Leave photos out in later runs too, if they are left out now."""

    def refuse(self, where: str, broken: Mapping[str, str], total: int) -> None:
        """Print the photos of a data set that are left out, with the reasons by their names.

        Raises `InvalidFile` with all of them unless ``skip_broken`` is set.
        """
        if not broken:
            return
        reasons = [f"{name}: {why}" for name, why in broken.items()]
        if len(reasons) > MAX_LISTED:
            more = f"… and {len(reasons) - MAX_LISTED} more"
            reasons = [*reasons[:MAX_LISTED], f"{more}; `hwnas data show` lists them all"]
        if self.skip_broken:
            for reason in reasons:
                self.say(f"skipped: {reason}")
            return
        if len(broken) == 1:
            hint = "repair or remove the file, or leave such files out with --skip-broken"
            name, why = next(iter(broken.items()))
            raise InvalidFile(name, f"{why}; {hint}")
        hint = "repair or remove these files, or leave them out with --skip-broken"
        lines = "".join(f"\n  {reason}" for reason in reasons)
        raise InvalidFile(where, f"{len(broken)} of {total} images can't be read:{lines}\n{hint}")


class FilePhotos:
    """Image files in a folder."""

    def __init__(self, folder: Path, names: Sequence[str]) -> None:
        """``names`` are relative to the folder."""
        self.folder, self.names = folder, names

    def __len__(self) -> int:
        return len(self.names)

    def name(self, row: int) -> str:
        return printable(str(self.folder / self.names[row]))

    def open(self, row: int) -> AbstractContextManager[Image]:
        return opened(self.folder / self.names[row], self.name(row))

    def size_bytes(self, row: int) -> int:
        return os.stat(os.path.join(self.folder, self.names[row])).st_size

    def content(self, row: int) -> bytes:
        return read_bytes(self.folder / self.names[row])

    def state(self) -> bytes:
        lines = bytearray()
        for name in self.names:
            try:
                status = os.stat(os.path.join(self.folder, name))
                size, time_ns = status.st_size, status.st_mtime_ns
            except OSError:  # opening it says why, with all that can't be read
                size = time_ns = -1
            lines += f"{name}\0{size}\0{time_ns}\n".encode("utf-8", "surrogateescape")
        return bytes(lines)
