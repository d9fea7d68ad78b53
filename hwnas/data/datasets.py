"""Data sets of labelled images: by name, from files, or from arrays and other Python objects."""

from __future__ import annotations

from collections.abc import Callable
from functools import cached_property
from hashlib import sha256
from pathlib import Path

import msgspec
import numpy as np

from hwnas.data.array_sources import read_cifar10, read_embedded, read_fashion_mnist, read_npz
from hwnas.data.images import Shape, check_memory, fit_images, fitting_notes, normalise_pixels
from hwnas.data.objects import read_object
from hwnas.data.photos.copying import read_headers
from hwnas.data.photos.labelled import ReadingOptions
from hwnas.data.photos.packed import PACKED_SUFFIX
from hwnas.data.photos.sources.find import find_photos
from hwnas.data.photos.tiers import broken_photos, pack_photos, read_packed, read_photos
from hwnas.data.splits import Origin, Source, Split, Statistics, cut_classes, moments
from hwnas.errors import InvalidFile, UnknownName, UsageError
from hwnas.files import check_suffix, printable

__all__ = ["DEFAULT", "NAMED", "Dataset", "Split", "load_dataset", "make_dataset", "normalise"]

DEFAULT = "fashion-mnist-6k"
READING = ReadingOptions()
VALID_SHARE = 0.2
ARCHIVES = (".zip", ".gz", ".tgz", ".bz2", ".xz", ".zst", ".7z", ".rar")
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
    """Remarks for the report, e.g. how many files were ignored."""
    statistics: Statistics | None = None
    """Digest, mean and deviation where they are known without reading the images, or where a
    trained network gives them."""
    answers_of: str = ""
    """Network whose predictions replace the labels; empty for true labels. Accuracies on
    predictions are the agreement with that network."""
    split: str = ""
    """How the splits were made, empty if the source has all of them."""
    origin: Origin | None = None
    """The photos that the images are from; None for arrays."""

    @property
    def input_shape(self) -> Shape:
        """``(C, H, W)``."""
        channels, height, width = self.train.images.shape[1:]
        return channels, height, width

    @property
    def score_name(self) -> str:
        """Name of an accuracy on these images: ``accuracy`` or ``agreement``."""
        return "agreement" if self.answers_of else "accuracy"

    @property
    def num_classes(self) -> int:
        return len(self.classes)

    @property
    def mean(self) -> tuple[float, ...]:
        """Mean of each channel over all training pixels, where 0 is black and 1 full intensity."""
        return self._moments[0]

    @property
    def std(self) -> tuple[float, ...]:
        """Standard deviation on the same scale; at least 1/255, for constant channels."""
        return self._moments[1]

    def normalised_by(self, mean: tuple[float, ...], std: tuple[float, ...]) -> Dataset:
        """Return the same images with the mean and deviation of each channel that a trained network
        expects, in place of their own."""
        return msgspec.structs.replace(self, statistics=Statistics(self.digest, mean, std))

    @cached_property
    def digest(self) -> str:
        """16 hex digits that identify images, labels, classes, order and splits."""
        if self.statistics is not None:
            return self.statistics.digest
        hasher = sha256("\0".join(self.classes).encode())
        for split in (self.train, self.valid, self.test):
            hasher.update(repr(split.images.shape).encode())
            for images in split.chunks():
                hasher.update(np.ascontiguousarray(images).data)
            hasher.update(np.ascontiguousarray(split.labels, dtype="<i8").data)
        return hasher.hexdigest()[:16]

    @cached_property
    def _moments(self) -> tuple[tuple[float, ...], tuple[float, ...]]:
        if self.statistics is not None:
            return self.statistics.mean, self.statistics.std
        return moments(self.train)


def load_dataset(
    name: str,
    *,
    input_shape: Shape | None = None,
    valid_share: float = VALID_SHARE,
    options: ReadingOptions = READING,
) -> Dataset:
    """Load a data set by its name, or from a folder of images or an ``.npz`` file.

    With an ``input_shape`` ``(C, H, W)``, C 1 or 3, every image is fitted to it
    (`hwnas.data.images.fit_image`). Where the source has no validation images, ``valid_share`` of
    each class's training images becomes them, up to 10,000 in all. Raises `HwnasError` for an
    unknown name, an invalid file or a failed download.
    """
    _check_options(input_shape, valid_share)
    source = _read(name, input_shape, valid_share, options)
    return _dataset(source, name, input_shape, valid_share)


def make_dataset(
    data: object,
    *,
    name: str = "",
    input_shape: Shape | None = None,
    valid_share: float = VALID_SHARE,
) -> Dataset:
    """Make a data set from arrays or from data sets in the style of torchvision.

    ``data`` is one of

    * a dict of the arrays ``x_train, y_train, x_test, y_test`` and optionally ``x_valid, y_valid,
      classes``, or a tuple of the first four, with uint8 images as in an ``.npz`` file
      (`hwnas.data.arrays`);
    * data sets of (image, class number) pairs: a tuple (train, test), a dict of ``train``, ``test``
      and optionally ``valid``, or a single one, of which 15 % of each class become test images. An
      image is a Pillow image, or an array or tensor of uint8 or of floats from 0 to 1. Data sets
      that are large beside the memory are packed into a file in hwnas's home.

    Options and errors are those of `load_dataset`. The default name is the type of the data set.
    """
    _check_options(input_shape, valid_share)
    source = read_object(data, name, input_shape, valid_share)
    return _dataset(source, source.name, input_shape, valid_share)


def absolute_name(name: str) -> str:
    """Return the absolute path of an existing file or folder; other names, such as those of
    embedded data sets, are returned unchanged."""
    exists = name not in NAMED and Path(name).exists()
    return str(Path(name).resolve()) if exists else name


def median_photo_px(name: str) -> float | None:
    """Return the median of the photos' shorter sides, None for data that are no photos."""
    if name in NAMED or (photos := find_photos(name, VALID_SHARE)) is None:
        return None
    sizes = read_headers(photos.photos, ReadingOptions(skip_broken=True)).sizes
    return float(np.median(sizes[sizes[:, 0] > 0].min(axis=1)))


def count_photos(name: str) -> int:
    """Return the number of photos of a data set, 0 for data that are no photos; reads none."""
    if name in NAMED or (photos := find_photos(name, VALID_SHARE)) is None:
        return 0
    return len(photos.photos)


def unreadable(name: str) -> dict[str, str]:
    """Return the reasons why photos of a data set can't be read, by their names."""
    if name in NAMED or (photos := find_photos(name, VALID_SHARE)) is None:
        return {}
    headers = read_headers(photos.photos, READING)
    return photos.named(broken_photos(photos, headers, READING))


def own_photo_shape(name: str) -> Shape | None:
    """Return the default input shape of photos, None for data that are no photos.

    Only headers are read, so that a large data set is not packed for a shape that is not used.
    """
    if name in NAMED or (photos := find_photos(name, VALID_SHARE)) is None:
        return None
    return read_headers(photos.photos, ReadingOptions(skip_broken=True)).own_shape


def pack_dataset(
    name: str, size: int | None, path: Path | None, options: ReadingOptions = READING
) -> Path:
    """Pack a data set of photos for images of ``size`` pixels; return the file.

    Without a ``path`` the file is where `load_dataset` of the same photos finds it. Raises
    `InvalidFile` or `UsageError` if the data are no photos.
    """
    if name in NAMED or (photos := find_photos(name, VALID_SHARE)) is None:
        expected = "expected a folder of images, a list (.csv), .tar shards or hf:NAME"
        raise UsageError(f"{name}: can't be packed, {expected}")
    return pack_photos(photos, size, path, options)


def normalise(images: np.ndarray, dataset: Dataset) -> np.ndarray:
    """Return ``(images / 255 - mean) / std`` as float32 ``[N, C, H, W]`` of uint8 images."""
    return normalise_pixels(images, dataset.mean, dataset.std)


def _read(name: str, shape: Shape | None, valid_share: float, options: ReadingOptions) -> Source:
    if name in NAMED:
        _check_ungrouped(name, options)
        return NAMED[name]()._replace(name=name)
    path = Path(name).expanduser()
    if path.is_file() and path.suffix in (".npz", PACKED_SUFFIX):
        _check_ungrouped(name, options)
    if path.is_file() and path.suffix == ".npz":
        return read_npz(path)
    if path.is_file() and path.suffix == PACKED_SUFFIX:
        return read_packed(path, shape)
    if (photos := find_photos(name, valid_share, options.group_by)) is not None:
        return read_photos(photos, shape, options)
    expected = "expected a folder of images, a list (.csv), .tar shards, a .packed or .npz file"
    if path.is_file():
        check_suffix(path, [".npz", PACKED_SUFFIX, ".tar"])
        hint = "; unpack the archive" if path.suffix.lower() in ARCHIVES else ""
        raise InvalidFile(name, f"is a file of another kind, {expected}{hint}")
    if path.suffix == ".npz" or path.name != name:
        raise InvalidFile(name, f"does not exist, {expected}")
    unknown = UnknownName("data set", name, NAMED)
    raise UsageError(f"{unknown}; no file here has this name either, {expected}")


def _check_ungrouped(name: str, options: ReadingOptions) -> None:
    if options.group_by:
        expected = "expected a folder of images, a list (.csv), .tar shards or hf:NAME"
        raise UsageError(f"{name}: its images have no names, {expected} with --group-by")


def _check_options(shape: Shape | None, valid_share: float) -> None:
    if shape is not None and (len(shape) != 3 or shape[0] not in (1, 3) or min(shape) < 1):
        raise UsageError(f"input shape is {shape}, expected (C, H, W) with 1 or 3 channels")
    if not 0 < valid_share < 1:
        raise UsageError(f"valid_share is {valid_share}, expected between 0 and 1")


def _dataset(source: Source, where: str, shape: Shape | None, valid_share: float) -> Dataset:
    train, valid = source.train, source.valid
    if valid is None:
        train, valid = cut_classes(train, source.classes, valid_share, where)
    splits, notes = [train, valid, source.test], source.notes
    if shape is not None:
        arrays = [split for split in splits if isinstance(split.images, np.ndarray)]
        check_memory(where, sum(len(split.labels) for split in arrays), shape)
        notes = (*notes, *_array_notes(arrays, shape))
        splits = [_fit(split, shape) for split in splits]
    return Dataset(
        source.name,
        tuple(map(printable, source.classes)),
        train=splits[0],
        valid=splits[1],
        test=splits[2],
        notes=notes,
        statistics=source.statistics,
        answers_of=source.answers_of,
        split=source.split or _given(source.valid is None),
        origin=source.origin,
    )


def _given(cut: bool) -> str:
    """Return a default description of the splits of a source."""
    if cut:
        return "as given; the validation images are split from the training images by their pixels"
    return "as given"


def _array_notes(arrays: list[Split], shape: Shape) -> tuple[str, ...]:
    """Return remarks on what changes in the images of arrays that are fitted to ``shape``."""
    counts: dict[tuple[int, int], int] = {}
    for split in arrays:
        size = split.images.shape[2], split.images.shape[3]
        counts[size] = counts.get(size, 0) + len(split.labels)
    return fitting_notes(counts, all(each.images.shape[1] == 1 for each in arrays), shape)


def _fit(split: Split, shape: Shape) -> Split:
    """Return a split with images of ``shape``; stored images already have it."""
    if not isinstance(split.images, np.ndarray):
        return split
    return split._replace(images=fit_images(split.images, shape))
