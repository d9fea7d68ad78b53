"""Data sets of labelled images: by name, from a folder of images or from an ``.npz`` file."""

from __future__ import annotations

from collections.abc import Callable
from functools import cached_property
from hashlib import sha256
from pathlib import Path

import msgspec
import numpy as np

from hwnas.data.array_sources import read_cifar10, read_embedded, read_fashion_mnist, read_npz
from hwnas.data.image_folder import read_folder
from hwnas.data.images import Shape, check_memory, fit_images
from hwnas.data.splits import Source, Split, cut_validation
from hwnas.errors import InvalidFile, UnknownName, UsageError

__all__ = ["DEFAULT", "NAMED", "Dataset", "Split", "load_dataset", "normalise"]

DEFAULT = "fashion-mnist-6k"
NAMED: dict[str, Callable[[], Source]] = {
    DEFAULT: read_embedded,
    "fashion-mnist": read_fashion_mnist,
    "cifar10": read_cifar10,
}


class Dataset(msgspec.Struct, frozen=True, dict=True, eq=False):
    """Training, validation and test images of one shape; no image is in two of them.

    Strategies choose by ``valid``; ``test`` is for the numbers that are reported.
    """

    name: str
    classes: tuple[str, ...]
    train: Split
    valid: Split
    test: Split
    notes: tuple[str, ...] = ()
    """What a report should tell, e.g. how many files were ignored."""

    @property
    def input_shape(self) -> Shape:
        """``(C, H, W)``."""
        channels, height, width = self.train.images.shape[1:]
        return channels, height, width

    @property
    def num_classes(self) -> int:
        return len(self.classes)

    @property
    def mean(self) -> tuple[float, ...]:
        """Of each channel over all training pixels, where 0 is black and 1 is full intensity."""
        return self._moments[0]

    @property
    def std(self) -> tuple[float, ...]:
        """Standard deviation on the same scale; at least 1/255, for channels that are constant."""
        return self._moments[1]

    @cached_property
    def digest(self) -> str:
        """16 hex digits that name the exact images, labels, classes, order and split."""
        hasher = sha256("\0".join(self.classes).encode())
        for split in (self.train, self.valid, self.test):
            hasher.update(repr(split.images.shape).encode())
            hasher.update(np.ascontiguousarray(split.images).data)
            hasher.update(np.ascontiguousarray(split.labels, dtype="<i8").data)
        return hasher.hexdigest()[:16]

    @cached_property
    def _moments(self) -> tuple[tuple[float, ...], tuple[float, ...]]:
        counts = _histograms(self.train.images)
        values = np.arange(256) / 255
        mean = counts @ values / counts.sum(axis=1)
        variance = counts @ values**2 / counts.sum(axis=1) - mean**2
        std = np.sqrt(np.maximum(variance, 255.0**-2))
        return tuple(mean.tolist()), tuple(std.tolist())


def load_dataset(
    name: str, *, input_shape: Shape | None = None, valid_share: float = 0.2
) -> Dataset:
    """Load a data set by its name, or from a folder of images or an ``.npz`` file.

    ``input_shape`` ``(C, H, W)`` with C 1 or 3 fits every image to it (see
    `hwnas.data.images.fit_image`). Where the source has no validation images of its own, this share
    of each class's training images becomes them, up to 10,000 in all. Raises `HwnasError`s: an
    unknown name, a file that is not what it should be, a download that failed.
    """
    if input_shape is not None:
        _check_shape(input_shape)
    if not 0 < valid_share < 1:
        raise UsageError(f"valid_share is {valid_share}, expected between 0 and 1")
    source = _read(name, input_shape, valid_share)
    train, valid = source.train, source.valid
    if valid is None:
        train, valid = cut_validation(train, source.classes, valid_share, name)
    splits = _fitted(name, (train, valid, source.test), input_shape)
    return Dataset(source.name, source.classes, *splits, notes=source.notes)


def normalise(images: np.ndarray, dataset: Dataset) -> np.ndarray:
    """Return ``(images / 255 - mean) / std`` as float32 ``[N, C, H, W]`` of uint8 images."""
    mean, std = (
        np.array(values, dtype=np.float32)[:, None, None] for values in (dataset.mean, dataset.std)
    )
    result = images.astype(np.float32)
    result /= 255
    result -= mean
    result /= std
    return result


def _read(name: str, shape: Shape | None, valid_share: float) -> Source:
    if name in NAMED:
        return NAMED[name]()._replace(name=name)
    path = Path(name).expanduser()
    if name and path.is_dir():
        return read_folder(path, shape, valid_share)
    if path.is_file() and path.suffix == ".npz":
        return read_npz(path)
    expected = "expected a folder of images or an .npz file"
    if path.is_file():
        raise InvalidFile(name, f"is a file of another kind, {expected}")
    if path.suffix == ".npz" or path.name != name:
        raise InvalidFile(name, f"does not exist, {expected}")
    unknown = UnknownName("data set", name, NAMED)
    raise UsageError(f"{unknown}; a folder of images or an .npz file may be given by its path")


def _check_shape(shape: Shape) -> None:
    if len(shape) != 3 or shape[0] not in (1, 3) or min(shape) < 1:
        raise UsageError(f"input shape is {shape}, expected (C, H, W) with 1 or 3 channels")


def _fitted(name: str, splits: tuple[Split, ...], shape: Shape | None) -> list[Split]:
    """Return the splits with images of the wanted shape, if they fit in memory."""
    if shape is None:
        return list(splits)
    check_memory(name, sum(len(split.labels) for split in splits), shape)
    return [Split(fit_images(split.images, shape), split.labels) for split in splits]


def _histograms(images: np.ndarray) -> np.ndarray:
    """Return how often each value occurs in each channel, ``[C, 256]``."""
    counts = np.zeros((images.shape[1], 256), dtype=np.int64)
    for start in range(0, len(images), 256):  # bincount makes 8 bytes of every pixel it is given
        for channel, planes in enumerate(images[start : start + 256].swapaxes(0, 1)):
            counts[channel] += np.bincount(planes.reshape(-1), minlength=256)
    return counts
