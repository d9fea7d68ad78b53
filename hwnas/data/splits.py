"""Cutting data sets into training, validation and test images, the same way on every machine.

Which image goes where follows from a hash of the image (or of its file's name), never from a
random generator or from the order of files, so it survives new library versions and new images.
"""

from __future__ import annotations

from collections.abc import Sequence
from hashlib import blake2b
from typing import NamedTuple

import numpy as np

from hwnas.errors import InvalidFile

VALID_MOST = 10_000
"""Validation images that are enough: their accuracy has a standard error below 0.5 points."""


class Split(NamedTuple):
    """Images and what they show."""

    images: np.ndarray
    """uint8 ``[N, C, H, W]``."""
    labels: np.ndarray
    """int64 ``[N]``, 0 … num_classes - 1."""


class Source(NamedTuple):
    """What a reader found, before validation images are cut and images are fitted."""

    name: str
    classes: tuple[str, ...]
    train: Split
    test: Split
    valid: Split | None = None
    """``None``: the source has no validation images of its own."""
    notes: tuple[str, ...] = ()
    """What a report should tell, e.g. how many files were ignored."""


def cut_validation(
    train: Split, classes: Sequence[str], share: float, where: str
) -> tuple[Split, Split]:
    """Return the training images that stay, and ``share`` of each class for validation.

    Of each class the images with the smallest content hashes go, at least one and never all, at
    most `VALID_MOST` in all; so the cut does not depend on the order of the images. A class with
    fewer than two training images raises `InvalidFile`, which names ``where``.
    """
    share = capped_share(share, len(train.labels))
    keys = [blake2b(image.tobytes(), digest_size=8).digest() for image in train.images]
    chosen = np.zeros(len(keys), dtype=bool)
    for label, name in enumerate(classes):
        members = np.flatnonzero(train.labels == label).tolist()
        check_count(where, name, len(members), needed=2)
        count = min(max(round(share * len(members)), 1), len(members) - 1)
        chosen[sorted(members, key=lambda index: keys[index])[:count]] = True
    stay = Split(train.images[~chosen], train.labels[~chosen])
    return stay, Split(train.images[chosen], train.labels[chosen])


def divide(names: Sequence[str], shares: Sequence[float]) -> list[list[str]]:
    """Divide the file names of one class into a list for each share (they sum to 1).

    The place of a name depends on its hash alone, so a new file moves no other one; the lists
    have about, not exactly, their shares. The exception is a class so small that a list would be
    empty: each gets at least one name. There must be as many names as shares.
    """
    ordered = in_hash_order(names)
    parts: list[list[str]] = []
    start, edge = 0, 0.0
    for left, share in zip(range(len(shares) - 1, -1, -1), shares, strict=True):
        edge += share
        below = sum(unit_hash(name) < edge for name in ordered) if left else len(ordered)
        end = min(max(below, start + 1), len(ordered) - left)
        parts.append(ordered[start:end])
        start = end
    return parts


def in_hash_order(names: Sequence[str]) -> list[str]:
    """Return names shuffled, but always the same way."""
    return sorted(names, key=lambda name: (unit_hash(name), name))


def unit_hash(text: str) -> float:
    """Return a number in [0, 1) that only depends on ``text``."""
    digest = blake2b(text.encode("utf-8", "surrogateescape"), digest_size=6).digest()
    return int.from_bytes(digest, "big") / 2**48


def capped_share(share: float, count: int) -> float:
    """Return ``share``, or less where it would be more than `VALID_MOST` of ``count`` images."""
    return min(share, VALID_MOST / max(count, 1))


def check_count(where: str, name: str, found: int, *, needed: int) -> None:
    """Raise `InvalidFile` if a class has too few images to be cut."""
    if found < needed:
        images = f"{found} image{'s' * (found != 1)}"
        why = f"class {name!r} has {images} to cut into {needed} parts, expected at least {needed}"
        raise InvalidFile(where, why)
