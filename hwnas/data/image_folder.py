"""Data sets of image files: a folder for each class.

``DIR/train/CLASS/*.png`` and ``DIR/test/CLASS/*`` (optionally ``DIR/valid`` or ``DIR/val``), or
just ``DIR/CLASS/*``, which is split by class into 70 % training, 15 % validation and 15 % test.
"""

from __future__ import annotations

import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from hwnas.data.images import (
    GREY_MODES,
    Shape,
    check_memory,
    common_shape,
    fit_image,
    to_grey_or_rgb,
)
from hwnas.data.splits import Source, Split, capped_share, check_count, divide, in_hash_order
from hwnas.errors import InvalidFile, first_line

if TYPE_CHECKING:
    from PIL.Image import Image

SUFFIXES = (".png", ".jpg", ".jpeg", ".bmp", ".webp", ".gif", ".ppm")
SPLIT_SHARES = (0.70, 0.15, 0.15)
Files = dict[str, list[str]]
"""File names relative to the data set's folder, by class."""


def read_folder(folder: Path, shape: Shape | None, valid_share: float) -> Source:
    """Read a folder of images; without a ``shape`` the images' own is taken (`common_shape`).

    The images are shuffled in an order that depends on their names only. Transparency is dropped,
    a GIF gives its first frame, and the orientation tag of a photo is applied. Every error is an
    `InvalidFile` that names the folder or file.
    """
    train, valid, test, ignored = _find(folder, valid_share)
    classes = tuple(sorted(train))
    parts = [_labelled(files, classes) for files in (train, valid, test)]
    names = [name for part in parts for name, _ in part]
    shape = shape or _own_shape(folder, names)
    check_memory(str(folder), len(names), shape)
    splits = [_decode(folder, part, shape) for part in parts]
    notes = (f"{ignored} hidden files or files that are not images were ignored",)
    name = folder.resolve().name
    return Source(name, classes, splits[0], splits[2], splits[1], notes if ignored else ())


def _find(folder: Path, valid_share: float) -> tuple[Files, Files, Files, int]:
    """Return the files of train, valid and test, and the number of files that were ignored."""
    parts = {entry.name.lower(): entry for entry in _folders(folder)}
    if "train" in parts or "test" in parts:
        return _find_splits(folder, parts, valid_share)
    files, ignored = _class_files(folder, folder)
    for name, images in files.items():
        check_count(str(folder / name), name, len(images), needed=3)
    train, valid, test = _divide(files, SPLIT_SHARES)
    return train, valid, test, ignored


def _find_splits(
    folder: Path, parts: dict[str, Path], valid_share: float
) -> tuple[Files, Files, Files, int]:
    """Do as `_find` for a folder with train/ and test/; split valid from train if it is missing."""
    for part in ("train", "test"):
        if part not in parts:
            raise InvalidFile(str(folder), f"no folder {part!r}, expected train/ and test/")
    own = [name for name in ("valid", "val") if name in parts]
    if len(own) > 1:
        raise InvalidFile(str(folder), "has both valid/ and val/, expected one of them")
    train, train_ignored = _class_files(folder, parts["train"])
    test, test_ignored = _class_files(folder, parts["test"])
    ignored = train_ignored + test_ignored
    _check_same(parts["train"], train, parts["test"], test)
    if own:
        valid, valid_ignored = _class_files(folder, parts[own[0]])
        _check_same(parts["train"], train, parts[own[0]], valid)
        return train, valid, test, ignored + valid_ignored
    for name, images in train.items():
        check_count(str(parts["train"] / name), name, len(images), needed=2)
    share = capped_share(valid_share, sum(map(len, train.values())))
    train, valid = _divide(train, (1 - share, share))
    return train, valid, test, ignored


def _class_files(root: Path, folder: Path) -> tuple[Files, int]:
    """Return the images in each class folder of ``folder``, and the number of other files."""
    loose, ignored = _images(folder)
    files: Files = {}
    for entry in _folders(folder):
        images, others = _images(entry)
        files[entry.name] = [file.relative_to(root).as_posix() for file in images]
        ignored += others
    expected = "expected one folder of images for each class"
    if not any(files.values()):
        where = f"{len(loose)} outside class folders" if loose else "none"
        raise InvalidFile(str(folder), f"no images in class folders ({where}), {expected}")
    if len(files) < 2:
        raise InvalidFile(str(folder), f"one class ({next(iter(files))!r}), expected at least 2")
    for name, images in files.items():
        if not images:
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
    for where, missing in (
        (folder, train.keys() - files.keys()),
        (train_folder, files.keys() - train.keys()),
    ):
        if missing:
            listed = ", ".join(repr(name) for name in sorted(missing)[:5])
            other = train_folder if where == folder else folder
            raise InvalidFile(str(where), f"no class {listed}, expected the classes of {other}")


def _divide(files: Files, shares: Sequence[float]) -> list[Files]:
    split = {name: divide(images, shares) for name, images in files.items()}
    return [{name: parts[part] for name, parts in split.items()} for part in range(len(shares))]


def _labelled(files: Files, classes: Sequence[str]) -> list[tuple[str, int]]:
    """Return file names with their labels, shuffled so that any prefix has all classes."""
    labels = {name: label for label, key in enumerate(classes) for name in files[key]}
    return [(name, labels[name]) for name in in_hash_order(list(labels))]


def _own_shape(folder: Path, names: Sequence[str]) -> Shape:
    """Return the shape that the images have in common, see `common_shape`."""
    sizes: set[tuple[int, int]] = set()
    grey = True
    for name in names:
        with _opened(folder / name) as image:
            sizes.add((image.height, image.width))
            grey = grey and image.mode in GREY_MODES
    return common_shape(sizes, grey)


def _decode(folder: Path, part: Sequence[tuple[str, int]], shape: Shape) -> Split:
    images = np.empty((len(part), *shape), dtype=np.uint8)
    for index, (name, _) in enumerate(part):
        images[index] = _read_image(folder / name, shape)
    return Split(images, np.array([label for _, label in part], dtype=np.int64))


def _read_image(file: Path, shape: Shape) -> np.ndarray:
    """Return the image of a file as uint8 ``[C, H, W]``."""
    from PIL import ImageOps

    with _opened(file) as image:
        return fit_image(to_grey_or_rgb(ImageOps.exif_transpose(image)), shape)


@contextmanager
def _opened(file: Path) -> Iterator[Image]:
    """Open an image; any exception of its decoder becomes an `InvalidFile`."""
    from PIL import Image as images

    try:
        with warnings.catch_warnings(), images.open(file) as image:
            # Pillow warns about unusual metadata; the pixels are right, and a broken file raises.
            warnings.simplefilter("ignore")
            yield image
    except Exception as error:
        raise InvalidFile(str(file), f"not a readable image ({first_line(error)})") from None
