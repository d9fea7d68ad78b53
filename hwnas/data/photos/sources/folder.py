"""Data sets of image files: a folder for each class.

``DIR/train/CLASS/*.png`` and ``DIR/test/CLASS/*`` (optionally ``DIR/valid`` or ``DIR/val``), or
just ``DIR/CLASS/*``, which is split by class into 70 % training, 15 % validation and 15 % test. In
the layout of ImageNet, ``DIR/train`` and ``DIR/val`` without test images, the images of ``val`` are
the test images. Images in sub-folders of a class belong to the class.

A folder may hold just another folder of the same kind, as after unpacking an archive:
``train/train/CLASS``. Folders whose name contains the word of a split, such as ``seg_train`` and
``test_set``, are splits if they have class folders of the same names.

A folder called ``train`` is a split if it has class folders and no images of its own, and a folder
of another split has class folders of the same names; else it is a class like any other.
"""

from __future__ import annotations

from functools import partial
from pathlib import Path

from hwnas.data.photos.labelled import FilePhotos, LabelledPhotos
from hwnas.data.photos.sources.dividing import (
    MAX_CLASSES,
    SPLIT_NAMES,
    Files,
    cut_valid,
    divide_files,
    labelled,
    numbered,
    same_name,
    split_of,
    split_rule,
)
from hwnas.data.photos.sources.grouping import Groups, pattern_groups
from hwnas.data.photos.sources.listing import (
    SUFFIXES,
    Remarks,
    has_images,
    list_entries,
    list_tree,
)
from hwnas.errors import InvalidFile

Parts = dict[str, Path]
"""Folders of the splits ``train``, ``valid`` and ``test``."""


def folder_photos(folder: Path, valid_share: float, group_by: str = "") -> LabelledPhotos:
    """Return the photos of a folder, shuffled in an order that depends on their names only.

    Transparency is dropped, a GIF gives its first frame, and the orientation tag of a photo is
    applied. Every error is an `InvalidFile` that names the folder or file.
    """
    remarks = Remarks()
    root = _unwrapped(folder, remarks)
    parts = _split_folders(root, remarks)
    given = {part: _class_files(root, path, remarks) for part, path in parts.items()}
    if not given:
        given = {"": _class_files(root, root, remarks)}
    names = (image for files in given.values() for images in files.values() for image in images)
    groups = pattern_groups(str(folder), group_by, names)
    splits = _divided(root, parts, given, valid_share, groups)
    if "valid" in parts and "test" not in parts:
        place = parts["valid"].name
        remarks.more.append(f"the images of {place}/ are the test images, as there is no test/")
    if len(parts) == 1:
        name = parts["train"].name
        remarks.more.append(f"{name}/ is divided, as no other images are labelled")
    return labelled(
        str(folder),
        folder.resolve().name,
        splits,
        partial(FilePhotos, root),
        remarks.texts(),
        classes=numbered(splits[0]),
    )._replace(split=split_rule([f"{path.name}/" for path in parts.values()], groups, splits))


def undivided_photos(folder: Path) -> LabelledPhotos | None:
    """Return all photos of a folder as test images, None if it has test images of its own.

    Unlike in `folder_photos`, one class and one photo of each class are enough.
    """
    remarks = Remarks()
    if _split_folders(folder, remarks):
        return None
    files = _class_files(folder, folder, remarks, needed_classes=1)
    none: Files = {name: [] for name in files}
    photos = partial(FilePhotos, folder)
    name = folder.resolve().name
    splits = none, none, files
    return labelled(str(folder), name, splits, photos, remarks.texts(), classes=numbered(files))


def _unwrapped(folder: Path, remarks: Remarks) -> Path:
    """Return the only folder in ``folder`` if that holds a data set, as after unpacking."""
    entries = list_entries(folder)
    if entries.images or len(entries.folders) != 1:
        return folder
    inner = folder / entries.folders[0]
    if inner.name.lower() in SPLIT_NAMES or len(_class_folders(inner)) < 2:
        return folder
    list_entries(folder, remarks)
    remarks.more.append(f"{inner.name}/, the only folder, is the data set")
    return _unwrapped(inner, remarks)


def _class_folders(folder: Path) -> list[str]:
    """Return the folders with images in a folder that has no images itself, else nothing."""
    entries = list_entries(folder)
    if entries.images:
        return []
    return [name for name in entries.folders if has_images(folder / name)]


def _split_folders(folder: Path, remarks: Remarks) -> Parts:
    """Return the folders of the splits; empty where the folders are classes."""
    entries = list_entries(folder)
    named = _named_splits(folder, entries.folders)
    others = [name for name in entries.folders if name not in named and has_images(folder / name)]
    classes = {name: set(_class_folders(_inner(folder / name))) for name in named}
    training = [name for name in named if split_of(name) == "train" and classes[name]]
    if not training:
        _check_named(folder, named, others, classes)
        return {}
    first = classes[training[0]]
    held_out = [name for name in named if name not in training and first & classes[name]]
    if not held_out:
        if others:
            _check_misnamed(folder, training[0], first, others)
            return {}
        if len(first) < 2 and len(named) > 1:
            return {}
    parts: Parts = {}
    for name in (*training, *named):
        part = split_of(name) or ""
        if name not in training and not classes[name]:
            images = len(list_tree(folder / name))
            why = f"{images} images without class folders" if images else "it has no images"
            remarks.more.append(f"{name}/ ignored: {why}")
        elif parts.setdefault(part, folder / name).name != name:
            both = f"{parts[part].name}/ and {name}/"
            raise InvalidFile(str(folder), f"has both {both}, expected one of them")
    parts = {part: _inner(path) for part, path in parts.items()}
    if others:
        listed = ", ".join(f"{name}/" for name in others[:5])
        remarks.more.append(f"ignored beside {training[0]}/: {listed}")
    return parts


def _named_splits(folder: Path, folders: list[str]) -> list[str]:
    """Return the folders that have names of splits; those with a name of several words only where
    training images and others have class folders of the same names."""
    worded = [name for name in folders if split_of(name) is not None]
    exact = [name for name in worded if name.lower() in SPLIT_NAMES]
    if worded == exact:
        return exact
    classes = {name: set(_class_folders(_inner(folder / name))) for name in worded}

    def are_splits(names: list[str]) -> bool:
        training = [name for name in names if split_of(name) == "train"]
        others = [name for name in names if name not in training]
        return any(len(classes[a] & classes[b]) > 1 for a in training for b in others)

    return worded if are_splits(worded) and not are_splits(exact) else exact


def _inner(folder: Path) -> Path:
    """Return the only folder in the folder of a split if that has the class folders."""
    classes = _class_folders(folder)
    if len(classes) == 1 and len(_class_folders(folder / classes[0])) > 1:
        return _inner(folder / classes[0])
    return folder


def _check_named(
    folder: Path, named: list[str], others: list[str], classes: dict[str, set[str]]
) -> None:
    """Raise `InvalidFile` where all folders have names of splits, but none has training images."""
    if others or not named or not all(has_images(folder / name) for name in named):
        return
    listed = ", ".join(f"{name}/" for name in named)
    parts = {split_of(name) for name in named}
    if "train" not in parts:
        if all(classes[name] for name in named):
            raise InvalidFile(str(folder), f"no folder 'train' beside {listed}, expected train/")
        return
    if len(parts) == 1:
        return
    why = f"no class folders in {listed}"
    expected = "expected train/CLASS/ and test/CLASS/, or a list (.csv) of path,label,split"
    raise InvalidFile(str(folder), f"{why}, {expected}")


def _check_misnamed(folder: Path, training: str, first: set[str], others: list[str]) -> None:
    """Raise `InvalidFile` where another folder has the class folders of the training images."""
    for name in others:
        if len(first) > 1 and first & set(_class_folders(folder / name)):
            why = f"no folder 'test' or 'val' beside {training}/, but {name}/ with the same classes"
            raise InvalidFile(str(folder), f"{why}: rename {name}/ to test/")


def _divided(
    root: Path, parts: Parts, given: dict[str, Files], valid_share: float, groups: Groups | None
) -> list[Files]:
    """Return the files of train, valid and test; divide what is missing from train."""
    if len(given) == 1:
        [files] = given.values()
        return divide_files(files, (parts.get("train") or root).joinpath, groups)
    train = given["train"]
    for part in parts.keys() - {"train"}:
        _check_same(parts["train"], train, parts[part], given[part])
    if "valid" in given and "test" in given:
        return [train, given["valid"], given["test"]]
    train, valid = cut_valid(train, valid_share, parts["train"].joinpath, groups)
    return [train, valid, given["test" if "test" in given else "valid"]]


def _class_files(root: Path, folder: Path, remarks: Remarks, needed_classes: int = 2) -> Files:
    """Return the images of each class folder of ``folder``, with paths relative to ``root``."""
    entries = list_entries(folder, remarks)
    remarks.loose += len(entries.images)
    files: Files = {}
    for name in entries.folders:
        prefix = (folder / name).relative_to(root).as_posix()
        images = list_tree(folder / name, remarks)
        files[name] = [f"{prefix}/{image}" for image in images]
    expected = "expected one folder of images for each class"
    if not any(files.values()):
        loose = len(entries.images)
        where = f"{loose} outside class folders" if loose else "none"
        if loose:
            expected += "; without labels, `--from NETWORK` cuts a network for its own classes"
        raise InvalidFile(str(folder), f"no images in class folders ({where}), {expected}")
    if len(files) < needed_classes:
        raise InvalidFile(str(folder), f"one class ({next(iter(files))!r}), expected at least 2")
    if empty := [name for name, images in files.items() if not images]:
        listed = ", ".join(f"{name}/" for name in empty[:MAX_CLASSES])
        more = f", … {len(empty) - MAX_CLASSES} more" if len(empty) > MAX_CLASSES else ""
        where = folder / empty[0] if len(empty) == 1 else folder
        why = "no images" if len(empty) == 1 else f"no images in {listed}{more}"
        raise InvalidFile(
            str(where),
            f"{why}, expected {', '.join(SUFFIXES[:4])}, … in the folder of each class; remove "
            "folders that are no classes",
        )
    return files


def _check_same(train_folder: Path, train: Files, folder: Path, files: Files) -> None:
    """Raise `InvalidFile` if two parts of a data set have different classes."""
    for where, missing in (
        (folder, train.keys() - files.keys()),
        (train_folder, files.keys() - train.keys()),
    ):
        if missing:
            listed = ", ".join(repr(name) for name in sorted(missing)[:5])
            other = train_folder if where == folder else folder
            own = files if where == folder else train
            hints = [
                f"; rename {own_name!r} to {name!r}?"
                for name in sorted(missing)
                for own_name in sorted(own)
                if same_name(own_name) == same_name(name)
            ]
            why = f"no class {listed}, expected the classes of {other}"
            raise InvalidFile(str(where), why + "".join(hints[:1]))
