"""Data sets of image files: a folder for each class.

``DIR/train/CLASS/*.png`` and ``DIR/test/CLASS/*`` (optionally ``DIR/valid`` or ``DIR/val``), or
just ``DIR/CLASS/*``, which is split by class into 70 % training, 15 % validation and 15 % test. In
the layout of ImageNet, ``DIR/train`` and ``DIR/val`` without test images, the images of ``val`` are
the test images.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from hwnas.data.photos.labelled import TRAIN, FilePhotos, LabelledPhotos
from hwnas.data.splits import capped_share, check_count, divide, in_hash_order
from hwnas.errors import InvalidFile

SUFFIXES = (".png", ".jpg", ".jpeg", ".bmp", ".webp", ".gif", ".ppm")
SPLIT_SHARES = (0.70, 0.15, 0.15)
Files = dict[str, list[str]]
"""File names relative to the data set's folder, by class."""


def folder_photos(folder: Path, valid_share: float) -> LabelledPhotos:
    """Return the photos of a folder, shuffled in an order that depends on their names only.

    Transparency is dropped, a GIF gives its first frame, and the orientation tag of a photo is
    applied. Every error is an `InvalidFile` that names the folder or file.
    """
    *files, ignored = _find(folder, valid_share)
    notes = (f"{ignored} hidden files or files that are not images were ignored",)
    return labelled_files(
        str(folder), folder.resolve().name, folder, files, notes if ignored else ()
    )


def labelled_files(
    where: str, name: str, folder: Path, splits: Sequence[Files], notes: tuple[str, ...] = ()
) -> LabelledPhotos:
    """Return image files of ``folder`` by split (train, valid, test) and class."""
    classes = tuple(sorted(splits[TRAIN]))
    places = {
        file: (label, part)
        for part, files in enumerate(splits)
        for label, key in enumerate(classes)
        for file in files[key]
    }
    names = in_hash_order(list(places))
    labels, parts = np.array([places[file] for file in names]).T
    return LabelledPhotos(
        where,
        name,
        classes,
        FilePhotos(folder, names),
        labels.astype(np.int64),
        parts.astype(np.uint8),
        notes,
    )


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
    own = [name for name in ("valid", "val") if name in parts]
    if "test" not in parts and len(own) == 1:
        parts = {"train": parts.get("train", folder / "train"), "test": parts[own.pop()]}
    for part in ("train", "test"):
        if part not in parts or not parts[part].is_dir():
            raise InvalidFile(str(folder), f"no folder {part!r}, expected train/ and test/")
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
    train, valid = cut_valid(train, valid_share)
    return train, valid, test, ignored


def cut_valid(train: Files, valid_share: float) -> tuple[Files, Files]:
    """Split validation images off, about the same share of each class."""
    count = sum(map(len, train.values()))
    share = capped_share(valid_share, count, len(train))
    train, valid = _divide(train, (1 - share, share))
    return train, valid


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
