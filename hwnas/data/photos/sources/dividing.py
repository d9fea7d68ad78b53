"""Images by class, divided into training, validation and test images by their names."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from decimal import Decimal
from unicodedata import normalize

import numpy as np

from hwnas.data.photos.labelled import TRAIN, LabelledPhotos, Photos
from hwnas.data.photos.sources.grouping import Groups, divide_groups, group_remark
from hwnas.data.splits import capped_share, check_count, divide, in_hash_order
from hwnas.errors import InvalidFile
from hwnas.files import printable

SPLIT_SHARES = (0.70, 0.15, 0.15)

BY_HASH = "by a hash of the names"
DIVIDED = "70 % training, 15 % validation and 15 % test images"
"""Description of the splits of images that are divided here."""

MAX_CLASSES = 12
"""Most classes that a message lists."""

Files = dict[str, list[str]]
"""Names of images, unique in the data set, by class."""

SPLIT_NAMES = {
    "train": "train",
    "training": "train",
    "valid": "valid",
    "val": "valid",
    "validation": "valid",
    "dev": "valid",
    "test": "test",
    "testing": "test",
}
"""Splits by the names that sources give them."""

NUMBER = re.compile(r"[-+]?(\d+(\.\d+)?|\.\d+)")


def split_of(name: str) -> str | None:
    """Return the split whose name is a word in ``name``: ``seg_train``, ``test-set``, ``val2017``.

    None if no word is one, or words of several splits are.
    """
    words = re.split(r"[^a-z]+", name.lower())
    parts = {SPLIT_NAMES[word] for word in words if word in SPLIT_NAMES}
    return parts.pop() if len(parts) == 1 else None


def divide_files(
    files: Files, where: Callable[[str], object], groups: Groups | None = None
) -> list[Files]:
    """Return 70 % training, 15 % validation and 15 % test images; ``where`` names a class."""
    if groups is not None:
        return divide_groups(str(where("")), files, groups, SPLIT_SHARES)
    _check_counts(files, where, needed=3)
    return _divide(files, SPLIT_SHARES)


def cut_valid(
    train: Files,
    valid_share: float,
    where: Callable[[str], object],
    groups: Groups | None = None,
) -> tuple[Files, Files]:
    """Split validation images off: a share of each class, or equally many where there are many.

    The second is what `capped_share` limits, e.g. 50 images of each class of ImageNet.
    """
    _check_counts(train, where, needed=2)
    count = sum(map(len, train.values()))
    share = capped_share(valid_share, count, len(train))
    if groups is not None:
        rest, valid = divide_groups(str(where("")), train, groups, (1 - share, share))
        return rest, valid
    if share == valid_share:
        rest, valid = _divide(train, (1 - share, share))
        return rest, valid
    per_class = round(share * count / len(train))
    ordered = {name: in_hash_order(images) for name, images in train.items()}
    held = {name: min(per_class, len(images) // 2) for name, images in train.items()}
    return (
        {name: images[: len(images) - held[name]] for name, images in ordered.items()},
        {name: images[len(images) - held[name] :] for name, images in ordered.items()},
    )


def complete_splits(
    where: str, parts: Mapping[str, Files], valid_share: float, groups: Groups | None = None
) -> list[Files]:
    """Return training, validation and test images of a source that has some of these splits.

    A single split is divided. Without test images the validation images are the test images, and
    validation images that are missing are split from the training images.
    """
    every = [files for files in parts.values() if any(files.values())]
    if len(every) == 1:
        _check_classes(where, every[0])
        return divide_files(every[0], lambda name: where, groups)
    train, valid, test = (parts.get(part, {}) for part in ("train", "valid", "test"))
    if not test:
        valid, test = {}, valid
    if not train:
        raise InvalidFile(where, "has no training images, expected train, and test or valid")
    _check_classes(where, train)
    if not valid:
        train, valid = cut_valid(train, valid_share, lambda name: where, groups)
    for part, files in (("validation", valid), ("test", test)):
        if missing := sorted(train.keys() - files.keys()):
            raise InvalidFile(where, f"class {missing[0]!r} has no {part} image, expected some")
        if unknown := sorted(files.keys() - train.keys()):
            raise InvalidFile(where, f"class {unknown[0]!r} has no training image, expected some")
    return [train, valid, test]


def split_rule(given: Iterable[str], groups: Groups | None, splits: Sequence[Files]) -> str:
    """Return how the splits were made, for the data card; ``given`` are those of the source."""
    names = list(given)
    made = BY_HASH if groups is None else f"in whole groups, {group_remark(splits, groups)}"
    if len(names) < 2:
        return f"{DIVIDED}, {made}"
    text = f"as given ({', '.join(names)})"
    known = {split_of(name) for name in names}
    if not known >= {"valid", "test"}:
        return f"{text}; the validation images are split from the training images {made}"
    return text if groups is None else f"{text}; {group_remark(splits, groups)}"


def labelled(
    where: str,
    name: str,
    splits: Sequence[Files],
    photos: Callable[[list[str]], Photos],
    notes: tuple[str, ...] = (),
    classes: Sequence[str] = (),
) -> LabelledPhotos:
    """Return images by split (train, valid, test) and class, shuffled by their names.

    ``photos`` returns the images of names in that order; the default order of ``classes`` is that
    of their names.
    """
    classes = tuple(classes or sorted(splits[TRAIN]))
    names = tuple(map(printable, classes))
    places = {
        image: (label, part)
        for part, files in enumerate(splits)
        for label, key in enumerate(classes)
        for image in files[key]
    }
    images = in_hash_order(list(places))
    labels, parts = np.array([places[image] for image in images]).T
    return LabelledPhotos(
        where,
        printable(name),
        names,
        photos(images),
        labels.astype(np.int64),
        parts.astype(np.uint8),
        (*notes, *_alike(names)),
    )


def numbered(classes: Iterable[str]) -> list[str]:
    """Return classes in their order, where 10 comes after 9 and -5 before 0."""
    names = sorted(classes)
    return sorted(names, key=Decimal) if all(map(NUMBER.fullmatch, names)) else names


def same_name(name: str) -> str:
    """Return a key that is equal for names that differ only in case, blanks or encoding."""
    return " ".join(normalize("NFKC", name).casefold().split())


def _alike(names: Sequence[str]) -> list[str]:
    """Return a remark on classes whose names are the same by `same_name`."""
    groups: dict[str, list[str]] = {}
    for name in names:
        groups.setdefault(same_name(name), []).append(name)
    alike = [", ".join(map(repr, group)) for group in groups.values() if len(group) > 1]
    return [f"almost the same name, and yet separate classes: {each}" for each in alike]


def _check_counts(files: Files, where: Callable[[str], object], needed: int) -> None:
    """Raise `InvalidFile` with all classes that have too few images to be divided."""
    few = {name: len(images) for name, images in files.items() if len(images) < needed}
    if len(few) > 1:
        listed = ", ".join(f"{name!r} ({count})" for name, count in list(few.items())[:MAX_CLASSES])
        more = f", … {len(few) - MAX_CLASSES} more" if len(few) > MAX_CLASSES else ""
        why = f"{len(few)} classes have too few images for {needed} splits: {listed}{more}"
        raise InvalidFile(str(where("")), f"{why}; expected at least {needed} of each")
    for name, count in few.items():
        check_count(str(where(name)), name, count, needed=needed)


def _check_classes(where: str, files: Files) -> None:
    if len(files) < 2:
        raise InvalidFile(where, f"one class ({next(iter(files))!r}), expected at least 2")


def _divide(files: Files, shares: Sequence[float]) -> list[Files]:
    split = {name: divide(images, shares) for name, images in files.items()}
    return [{name: parts[part] for name, parts in split.items()} for part in range(len(shares))]
