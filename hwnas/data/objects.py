"""Data sets that are Python objects: arrays, and data sets in the style of torchvision.

torchvision itself isn't needed: a data set is any object with a length whose items are pairs of an
image (Pillow image, array or tensor) and a class number.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from threading import Lock
from typing import TYPE_CHECKING, Any, Protocol, cast

import numpy as np

from hwnas.data.arrays import channels_first, check_keys, listed, source_of_arrays
from hwnas.data.images import (
    GREY_MODES,
    Shape,
    common_shape,
    fit_image,
)
from hwnas.data.photos.labelled import LabelledPhotos, ReadingOptions
from hwnas.data.photos.reading import decoded, oriented_size
from hwnas.data.photos.sources.dividing import Files, complete_splits, labelled, numbered
from hwnas.data.photos.tiers import memory_limit_bytes, read_photos
from hwnas.data.splits import Source, Split, cut_classes
from hwnas.errors import InvalidFile, UsageError, first_line

if TYPE_CHECKING:
    from PIL.Image import Image

TEST_SHARE = 0.15
"""Share of each class that becomes test images if there is a single data set."""
ARRAYS = ("x_train", "y_train", "x_test", "y_test")
PARTS = ("train", "test", "valid")
EXPECTED = (
    "expected arrays (x_train, y_train, x_test, y_test as a dict or tuple) or data sets of (image, "
    "class number) pairs: one, a tuple (train, test), or a dict of train, test and optionally valid"
)


STATE_SAMPLES = 64
"""Number of samples whose pixels identify a large data set that was packed earlier."""


class Samples(Protocol):
    """A data set in the style of torchvision, with optional names in ``classes``."""

    def __len__(self) -> int: ...

    def __getitem__(self, index: int, /) -> tuple[Any, Any]: ...


def read_object(data: object, name: str, shape: Shape | None, valid_share: float) -> Source:
    """Return the data set of a Python object, see `hwnas.data.datasets.make_dataset`."""
    parts = _parts(data)
    if "train" not in parts:
        return _read_arrays(parts, name)
    return _read_parts(parts, name, shape, valid_share)


def _parts(data: object) -> Mapping[str, Any]:
    """Return arrays by the names in `ARRAYS`, or data sets by those in `PARTS`."""
    if isinstance(data, Mapping):
        return cast(Mapping[str, Any], data)
    if not isinstance(data, tuple):
        return {"train": data}
    values = cast(tuple[Any, ...], data)
    if len(values) not in (2, 4):
        raise UsageError(f"data is a tuple of {len(values)}, {EXPECTED}")
    return dict(zip(PARTS if len(values) == 2 else ARRAYS, values, strict=False))


def _read_arrays(data: Mapping[str, Any], name: str) -> Source:
    where = name or "arrays"
    check_keys(where, data.keys())
    return source_of_arrays(where, {key: np.asarray(value) for key, value in data.items()}, where)


def _read_parts(
    data: Mapping[str, Any], name: str, shape: Shape | None, valid_share: float
) -> Source:
    """Return the source of data sets in the style of torchvision, by the names in `PARTS`.

    They become arrays, or, if arrays would be too large, photos as those of a folder.
    """
    where = name or type(data["train"]).__name__
    if unknown := sorted(data.keys() - set(PARTS)):
        raise UsageError(f"{where}: data has {unknown[0]!r}, {EXPECTED}")
    for part, samples in data.items():
        if not hasattr(samples, "__len__") or not hasattr(samples, "__getitem__"):
            raise UsageError(f"{where}: {part} is a {type(samples).__name__}, {EXPECTED}")
        if not len(samples):
            raise InvalidFile(where, f"{part} is empty, expected images of every class")
    shape = shape or _common_shape(where, data)
    if sum(map(len, data.values())) * math.prod(shape) > memory_limit_bytes():
        return read_photos(_labelled(where, data, valid_share), shape, ReadingOptions())
    splits = {part: _read_split(f"{where}: {part}", data[part], shape) for part in data}
    classes = _classes(where, data["train"], splits)
    train, test = splits["train"], splits.get("test")
    if test is None:
        train, test = cut_classes(train, classes, TEST_SHARE, where)
    return Source(where, classes, train, test, splits.get("valid"))


def _labelled(where: str, data: Mapping[str, Samples], valid_share: float) -> LabelledPhotos:
    """Return the samples as photos, with splits as those of a folder."""
    names = getattr(data["train"], "classes", None)
    parts: dict[str, Files] = {}
    places: dict[str, tuple[str, int]] = {}
    for part, samples in data.items():
        for index, label in enumerate(_labels(f"{where}: {part}", samples)):
            key = f"{part}/{index}"
            places[key] = part, index
            text = str(label) if names is None else str(names[label])
            parts.setdefault(part, {}).setdefault(text, []).append(key)
    splits = complete_splits(where, parts, valid_share)
    order = numbered(splits[0]) if names is None else [str(n) for n in names if str(n) in splits[0]]
    return labelled(
        where, where, splits, lambda keys: _SamplePhotos(where, data, places, keys), classes=order
    )


def _labels(where: str, samples: Samples) -> list[int]:
    """Return the class numbers, from ``targets`` where the data set has them: no image is read."""
    targets = getattr(samples, "targets", None)
    if targets is None or len(targets) != len(samples):
        targets = [label for _, label in _images(where, samples)]
    return [_class_number(f"{where}[{index}]", label) for index, label in enumerate(targets)]


class _SamplePhotos:
    """Samples as photos; one is read at a time, as data sets need not be safe for threads."""

    def __init__(
        self,
        where: str,
        data: Mapping[str, Samples],
        places: Mapping[str, tuple[str, int]],
        keys: list[str],
    ) -> None:
        self.where, self.data, self.keys = where, data, keys
        self.places = [places[key] for key in keys]
        self._lock = Lock()

    def __len__(self) -> int:
        return len(self.keys)

    def name(self, row: int) -> str:
        return f"{self.where}: {self.keys[row]}"

    @contextmanager
    def open(self, row: int) -> Iterator[Image]:
        part, index = self.places[row]
        try:
            with self._lock:
                image, _ = _sample(self.name(row), self.data[part], index)
            yield image
        except InvalidFile:
            raise
        except Exception as error:
            why = f"not a readable image ({first_line(error)})"
            raise InvalidFile(self.name(row), why) from None

    def size_bytes(self, row: int) -> int:
        return len(self.content(row))

    def content(self, row: int) -> bytes:
        with self.open(row) as image:
            return image.tobytes()

    def state(self) -> bytes:
        rows = np.linspace(0, len(self) - 1, STATE_SAMPLES).astype(int).tolist()
        pixels: list[bytes] = []
        for row in rows:
            with self.open(row) as image:
                pixels.append(image.tobytes())
        return repr(self.keys).encode() + b"".join(pixels)


def _common_shape(where: str, data: Mapping[str, Samples]) -> Shape:
    counts = Counter[tuple[int, int]]()
    grey = True
    for part, samples in data.items():
        for image, _ in _images(f"{where}: {part}", samples):
            counts[oriented_size(image)] += 1
            grey = grey and image.mode in GREY_MODES
    return common_shape(counts, grey)


def _read_split(where: str, samples: Samples, shape: Shape) -> Split:
    images = np.empty((len(samples), *shape), dtype=np.uint8)
    labels = np.empty(len(samples), dtype=np.int64)
    for index, (image, label) in enumerate(_images(where, samples)):
        images[index] = fit_image(decoded(image), shape)
        labels[index] = _class_number(f"{where}[{index}]", label)
    return Split(images, labels)


def _class_number(where: str, label: Any) -> int:
    try:
        return int(label)
    except (TypeError, ValueError):
        raise InvalidFile(where, f"the label is {label!r}, expected a class number") from None


def _images(where: str, samples: Samples) -> Iterator[tuple[Image, Any]]:
    """Yield the samples with their images as Pillow images."""
    for index in range(len(samples)):
        yield _sample(f"{where}[{index}]", samples, index)


def _sample(where: str, samples: Samples, index: int) -> tuple[Image, Any]:
    from PIL import Image as images

    sample = samples[index]
    if not isinstance(sample, (tuple, list)) or len(cast(Any, sample)) != 2:
        kind = type(sample).__name__
        raise InvalidFile(where, f"a {kind}, expected an (image, class) pair")
    image, label = sample
    if not isinstance(image, images.Image):
        image = images.fromarray(_pixels(where, np.asarray(image)))
    return image, label


def _pixels(where: str, image: np.ndarray) -> np.ndarray:
    """Return an array or tensor as uint8 ``[H, W]`` or ``[H, W, C]``; floats are from 0 to 1."""
    if image.dtype.kind == "f":
        if not 0 <= image.min() <= image.max() <= 1:
            span = f"{image.min():g} to {image.max():g}"
            raise InvalidFile(
                where, f"pixels are {span}, expected 0 to 1 or uint8: leave out Normalize"
            )
        image = np.round(image * 255).astype(np.uint8)
    if image.dtype != np.uint8:
        raise InvalidFile(where, f"the image is {image.dtype}, expected uint8 or floats 0 to 1")
    if image.ndim not in (2, 3) or 0 in image.shape:
        shapes = "[H, W], [H, W, C] or [C, H, W]"
        raise InvalidFile(where, f"the image is {listed(image.shape)}, expected {shapes}")
    if image.ndim == 2:
        return image
    planes = channels_first(where, "the image", image[None])[0]
    return planes[0] if len(planes) == 1 else np.ascontiguousarray(planes.transpose(1, 2, 0))


def _classes(where: str, samples: Samples, splits: Mapping[str, Split]) -> tuple[str, ...]:
    """Check the labels and return the names of the classes; without names, their numbers."""
    count = int(splits["train"].labels.max()) + 1
    names: tuple[str, ...] = tuple(map(str, getattr(samples, "classes", range(count))))
    if len(names) < 2:
        raise InvalidFile(where, f"the classes are {list(names)}, expected at least 2")
    for part, split in splits.items():
        if split.labels.min() < 0 or split.labels.max() >= len(names):
            span = f"{split.labels.min()} to {split.labels.max()}"
            raise InvalidFile(where, f"{part} has labels {span}, expected 0 to {len(names) - 1}")
    absent = np.setdiff1d(np.arange(len(names)), splits["train"].labels)
    if absent.size:
        raise InvalidFile(where, f"train has no {names[absent[0]]!r}, expected every class")
    return names
