"""Data sets of image files: a folder for each class.

``DIR/train/CLASS/*.png`` with ``DIR/test/CLASS/*`` (and ``DIR/valid`` or ``DIR/val``), or just
``DIR/CLASS/*``, which is cut class by class into 70 % training, 15 % validation, 15 % test.
"""

from __future__ import annotations

import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from hwnas.data.images import Shape, check_memory, fit_image
from hwnas.data.splits import Source, Split, capped_share, check_count, divide, in_hash_order
from hwnas.errors import InvalidFile

if TYPE_CHECKING:
    from PIL.Image import Image

SUFFIXES = (".png", ".jpg", ".jpeg", ".bmp", ".webp", ".gif", ".ppm")
LARGEST_OWN_SIZE = 224
"""Images of one size up to this keep it; all others become 224 x 224, the usual ImageNet size."""
SHARES = (0.70, 0.15, 0.15)
GREY_MODES = ("1", "L", "I;16", "I")
"""Pillow's names of bilevel, 8-bit and 16-bit grey."""

Files = dict[str, list[str]]
"""File names relative to the data set's folder, by class."""


def read_folder(folder: Path, shape: Shape | None, valid_share: float) -> Source:
    """Read a folder of images; ``shape`` ``None`` takes the images' own (see `_own_shape`).

    Images come in a shuffled order that depends on their names only. Transparency is dropped, a
    GIF gives its first frame, and a photo's orientation tag is followed. Every error is an
    `InvalidFile` that names the folder or file.
    """
    train, valid, test, ignored = _find(folder, valid_share)
    classes = tuple(sorted(train))
    parts = [_listed(files, classes) for files in (train, valid, test)]
    names = [name for part in parts for name, _ in part]
    shape = shape or _own_shape(folder, names)
    check_memory(str(folder), len(names), shape)
    splits = [_decode(folder, part, shape) for part in parts]
    notes = (f"{ignored} hidden files or files that are not images were ignored",)
    name = folder.resolve().name
    return Source(name, classes, splits[0], splits[2], splits[1], notes if ignored else ())


def _find(folder: Path, valid_share: float) -> tuple[Files, Files, Files, int]:
    """Return the files of train, valid and test, and how many files were passed over."""
    parts = {entry.name.lower(): entry for entry in _folders(folder)}
    if "train" in parts or "test" in parts:
        return _find_given(folder, parts, valid_share)
    files, ignored = _class_files(folder, folder)
    for name, found in files.items():
        check_count(str(folder / name), name, len(found), needed=3)
    train, valid, test = _divide(files, SHARES)
    return train, valid, test, ignored


def _find_given(
    folder: Path, parts: dict[str, Path], valid_share: float
) -> tuple[Files, Files, Files, int]:
    """Do as `_find` where the user has cut the set; cut validation from train if there is none."""
    for part in ("train", "test"):
        if part not in parts:
            raise InvalidFile(str(folder), f"no folder {part!r}, expected train/ and test/")
    own = [name for name in ("valid", "val") if name in parts]
    if len(own) > 1:
        raise InvalidFile(str(folder), "has both valid/ and val/, expected one of them")
    train, ignored = _class_files(folder, parts["train"])
    test, more = _class_files(folder, parts["test"])
    _check_same(parts["train"], train, parts["test"], test)
    if own:
        valid, most = _class_files(folder, parts[own[0]])
        _check_same(parts["train"], train, parts[own[0]], valid)
        return train, valid, test, ignored + more + most
    for name, found in train.items():
        check_count(str(parts["train"] / name), name, len(found), needed=2)
    share = capped_share(valid_share, sum(map(len, train.values())))
    train, valid = _divide(train, (1 - share, share))
    return train, valid, test, ignored + more


def _class_files(root: Path, folder: Path) -> tuple[Files, int]:
    """Return the images in each class folder of ``folder``, and the number of other files."""
    loose, ignored = _images(folder)
    files: Files = {}
    for entry in _folders(folder):
        found, others = _images(entry)
        files[entry.name] = [file.relative_to(root).as_posix() for file in found]
        ignored += others
    expected = "expected one folder of images for each class"
    if not any(files.values()):
        where = f"{len(loose)} outside class folders" if loose else "none"
        raise InvalidFile(str(folder), f"no images in class folders ({where}), {expected}")
    if len(files) < 2:
        raise InvalidFile(str(folder), f"one class ({next(iter(files))!r}), expected at least 2")
    for name, found in files.items():
        if not found:
            raise InvalidFile(str(folder / name), f"no images, expected {', '.join(SUFFIXES)}")
    return files, ignored + len(loose)


def _folders(folder: Path) -> list[Path]:
    entries = _entries(folder)
    return [entry for entry in entries if entry.is_dir() and not entry.name.startswith(".")]


def _entries(folder: Path) -> list[Path]:
    try:
        return sorted(folder.iterdir())
    except OSError as error:
        raise InvalidFile(str(folder), f"cannot be listed ({error.strerror})") from None


def _images(folder: Path) -> tuple[list[Path], int]:
    """Return the images directly in a folder, and the number of its other files."""
    files = [entry for entry in _entries(folder) if entry.is_file()]
    images = [
        file for file in files if file.suffix.lower() in SUFFIXES and not file.name.startswith(".")
    ]
    return images, len(files) - len(images)


def _check_same(train_folder: Path, train: Files, folder: Path, files: Files) -> None:
    """Raise `InvalidFile` if two parts of a data set have different classes."""
    for where, odd in (
        (folder, train.keys() - files.keys()),
        (train_folder, files.keys() - train.keys()),
    ):
        if odd:
            listed = ", ".join(repr(name) for name in sorted(odd)[:5])
            other = train_folder if where == folder else folder
            raise InvalidFile(str(where), f"no class {listed}, expected the classes of {other}")


def _divide(files: Files, shares: Sequence[float]) -> list[Files]:
    cut = {name: divide(found, shares) for name, found in files.items()}
    return [{name: parts[part] for name, parts in cut.items()} for part in range(len(shares))]


def _listed(files: Files, classes: Sequence[str]) -> list[tuple[str, int]]:
    """Return file names with their labels, shuffled so that any prefix holds all classes."""
    labels = {name: label for label, key in enumerate(classes) for name in files[key]}
    return [(name, labels[name]) for name in in_hash_order(list(labels))]


def _own_shape(folder: Path, names: Sequence[str]) -> Shape:
    """Return the common size if there is one up to 224, else 224; one channel if all are grey."""
    sizes: set[tuple[int, int]] = set()
    grey = True
    for name in names:
        with _opened(folder / name) as image:
            sizes.add((image.height, image.width))
            grey = grey and image.mode in GREY_MODES
    height, width = sizes.pop()
    if sizes or max(height, width) > LARGEST_OWN_SIZE:
        height = width = LARGEST_OWN_SIZE
    return (1 if grey else 3), height, width


def _decode(folder: Path, part: Sequence[tuple[str, int]], shape: Shape) -> Split:
    images = np.empty((len(part), *shape), dtype=np.uint8)
    for index, (name, _) in enumerate(part):
        images[index] = _read_image(folder / name, shape)
    return Split(images, np.array([label for _, label in part], dtype=np.int64))


def _read_image(file: Path, shape: Shape) -> np.ndarray:
    """Return one file as uint8 ``[C, H, W]``."""
    from PIL import ImageOps

    with _opened(file) as image:
        return fit_image(_plain(ImageOps.exif_transpose(image)), shape)


@contextmanager
def _opened(file: Path) -> Iterator[Image]:
    """Open an image; whatever a decoder raises inside becomes an `InvalidFile`."""
    from PIL import Image as images

    try:
        with warnings.catch_warnings(), images.open(file) as image:
            # Pillow warns of odd metadata; the pixels are right, and a broken file raises.
            warnings.simplefilter("ignore")
            yield image
    except Exception as error:
        why = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise InvalidFile(str(file), f"not a readable image ({why})") from None


def _plain(image: Image) -> Image:
    """Return an image of any mode as L or RGB."""
    from PIL import Image as images

    if image.mode.startswith("I"):  # Pillow would clip 16-bit grey at 255, not scale it
        return images.fromarray((np.asarray(image) >> 8).astype(np.uint8))
    return image.convert("L" if image.mode in GREY_MODES else "RGB")
