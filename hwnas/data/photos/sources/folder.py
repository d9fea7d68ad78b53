"""Data sets of image files: a folder for each class.

``DIR/train/CLASS/*.png`` and ``DIR/test/CLASS/*`` (optionally ``DIR/valid`` or ``DIR/val``), or
just ``DIR/CLASS/*``, which is split by class into 70 % training, 15 % validation and 15 % test. In
the layout of ImageNet, ``DIR/train`` and ``DIR/val`` without test images, the images of ``val`` are
the test images.
"""

from __future__ import annotations

import os
from functools import partial
from pathlib import Path

from hwnas.data.photos.labelled import FilePhotos, LabelledPhotos
from hwnas.data.photos.sources.dividing import Files, cut_valid, divide_files, labelled
from hwnas.errors import InvalidFile

SUFFIXES = (".png", ".jpg", ".jpeg", ".bmp", ".webp", ".gif", ".ppm")


def folder_photos(folder: Path, valid_share: float) -> LabelledPhotos:
    """Return the photos of a folder, shuffled in an order that depends on their names only.

    Transparency is dropped, a GIF gives its first frame, and the orientation tag of a photo is
    applied. Every error is an `InvalidFile` that names the folder or file.
    """
    *files, ignored = _find(folder, valid_share)
    notes = (f"{ignored} hidden files or files that are not images were ignored",)
    return labelled(
        str(folder),
        folder.resolve().name,
        files,
        partial(FilePhotos, folder),
        notes if ignored else (),
    )


def undivided_photos(folder: Path) -> LabelledPhotos | None:
    """Return all photos of a folder as test images, None if it has test images of its own.

    Other than in `folder_photos`, one class and one photo of each class are enough.
    """
    if {entry.name.lower() for entry in _folders(folder)} & {"train", "test"}:
        return None
    files, _ = _class_files(folder, folder, needed_classes=1)
    none: Files = {name: [] for name in files}
    photos = partial(FilePhotos, folder)
    return labelled(str(folder), folder.resolve().name, (none, none, files), photos)


def _find(folder: Path, valid_share: float) -> tuple[Files, Files, Files, int]:
    """Return the files of train, valid and test, and the number of files that were ignored."""
    parts = {entry.name.lower(): entry for entry in _folders(folder)}
    if "train" in parts or "test" in parts:
        return _find_splits(folder, parts, valid_share)
    files, ignored = _class_files(folder, folder)
    train, valid, test = divide_files(files, folder.joinpath)
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
    train, valid = cut_valid(train, valid_share, parts["train"].joinpath)
    return train, valid, test, ignored


def _class_files(root: Path, folder: Path, needed_classes: int = 2) -> tuple[Files, int]:
    """Return the images in each class folder of ``folder``, and the number of other files."""
    loose, ignored = _images(folder)
    files: Files = {}
    for entry in _folders(folder):
        images, others = _images(entry)
        prefix = entry.relative_to(root).as_posix()
        files[entry.name] = [f"{prefix}/{name}" for name in images]
        ignored += others
    expected = "expected one folder of images for each class"
    if not any(files.values()):
        where = f"{len(loose)} outside class folders" if loose else "none"
        raise InvalidFile(str(folder), f"no images in class folders ({where}), {expected}")
    if len(files) < needed_classes:
        raise InvalidFile(str(folder), f"one class ({next(iter(files))!r}), expected at least 2")
    for name, images in files.items():
        if not images:
            raise InvalidFile(str(folder / name), f"no images, expected {', '.join(SUFFIXES)}")
    return files, ignored + len(loose)


def _folders(folder: Path) -> list[Path]:
    names = (entry.name for entry in _entries(folder) if entry.is_dir())
    return [folder / name for name in sorted(names) if not name.startswith(".")]


def _entries(folder: Path) -> list[os.DirEntry[str]]:
    try:
        with os.scandir(folder) as entries:
            return list(entries)
    except OSError as error:
        raise InvalidFile(str(folder), f"cannot be listed ({error.strerror})") from None


def _images(folder: Path) -> tuple[list[str], int]:
    """Return the names of the images directly in a folder, and the number of its other files."""
    names = [entry.name for entry in _entries(folder) if entry.is_file()]
    images = [
        name for name in names if name.lower().endswith(SUFFIXES) and not name.startswith(".")
    ]
    return sorted(images), len(names) - len(images)


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
