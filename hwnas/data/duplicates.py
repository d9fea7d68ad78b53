"""Duplicate images in a data set, by a hash of their content."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from hashlib import blake2b
from itertools import combinations

import msgspec
import numpy as np

from hwnas.data.datasets import Dataset
from hwnas.data.splits import Origin, Split
from hwnas.processes import cores

MAX_READ_BYTES = 20_000_000_000
"""Most bytes of photos that are read for the comparison, which takes a few minutes from a disk."""

MAX_EXAMPLES = 3

PARTS = ("training", "validation", "test")


class Duplicates(msgspec.Struct, frozen=True):
    """Images with the same content as another."""

    checked: bool = True
    """Whether the images were compared; data larger than memory may not be."""
    across: dict[str, int] = {}
    """Contents that are in two splits, by their names: ``training and test``."""
    within: int = 0
    """Images that repeat one of their own split."""
    other_class: int = 0
    """Contents that are in two classes."""
    examples: tuple[tuple[str, str], ...] = ()
    """Names of images that are in two splits, at most three pairs."""


def find_duplicates(dataset: Dataset) -> Duplicates:
    """Return the duplicates: equal files of photos, or equal pixels of arrays.

    Files are read only where another has the same number of bytes.
    """
    if dataset.origin is not None:
        return _of_photos(dataset.origin)
    places: dict[bytes, list[tuple[int, int, str]]] = defaultdict(list)
    splits = dataset.train, dataset.valid, dataset.test
    if not all(isinstance(split.images, np.ndarray) for split in splits):
        return Duplicates(checked=False)
    for part, split in enumerate(splits):
        for row, (digest, label) in enumerate(_digests(split)):
            places[digest].append((part, label, f"{PARTS[part]} image {row}"))
    return _counted(places)


def _digests(split: Split) -> Iterator[tuple[bytes, int]]:
    labels = iter(split.labels.tolist())
    for images in split.chunks():
        for image, label in zip(images, labels, strict=False):
            yield blake2b(image.tobytes(), digest_size=16).digest(), label


def _of_photos(origin: Origin) -> Duplicates:
    photos, rows = origin.photos, np.flatnonzero(origin.sizes[:, 0] > 0).tolist()
    sizes = {row: photos.size_bytes(row) for row in rows}
    common = Counter(sizes.values())
    alike = [row for row in rows if common[sizes[row]] > 1]
    if sum(sizes[row] for row in alike) > MAX_READ_BYTES:
        return Duplicates(checked=False)

    def digest(row: int) -> bytes:
        return blake2b(photos.content(row), digest_size=16).digest()

    places: dict[bytes, list[tuple[int, int, str]]] = defaultdict(list)
    with ThreadPoolExecutor(cores()) as pool:
        for row, key in zip(alike, pool.map(digest, alike), strict=True):
            part, label = int(origin.parts[row]), int(origin.labels[row])
            places[key].append((part, label, photos.name(row)))
    return _counted(places)


def _counted(places: Mapping[bytes, list[tuple[int, int, str]]]) -> Duplicates:
    """Return the counts for the split, class and name of each image, by content."""
    across, within, other_class = Counter[str](), 0, 0
    examples: list[tuple[str, str]] = []
    for copies in places.values():
        if len(copies) < 2:
            continue
        first = {part: name for part, _, name in reversed(copies)}
        within += len(copies) - len(first)
        other_class += len({label for _, label, _ in copies}) > 1
        for part, other in combinations(sorted(first), 2):
            across[f"{PARTS[part]} and {PARTS[other]}"] += 1
            examples.append((first[part], first[other]))
    pairs = tuple(sorted(examples)[:MAX_EXAMPLES])
    return Duplicates(True, dict(sorted(across.items())), within, other_class, pairs)
