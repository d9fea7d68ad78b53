"""The trained network that a run starts from, and its images."""

from __future__ import annotations

from typing import NamedTuple, Protocol

import msgspec
import numpy as np

from hwnas.architecture.architecture import Architecture
from hwnas.data.datasets import Dataset, median_photo_px
from hwnas.data.photos.sources.answers import SUFFIX as ANSWERS_SUFFIX
from hwnas.errors import UsageError
from hwnas.networks.pretrained import load_pretrained
from hwnas.pretrained.network import PretrainedNetwork
from hwnas.spaces.elastic.space import elastic_space
from hwnas.spaces.int8 import in_precision
from hwnas.spaces.space import SearchSpace
from hwnas.specialize.spec import RunSpec

MAX_ENLARGEMENT = 1.25
"""Largest factor, approximately, by which photos smaller than the images of a network are
enlarged."""
FEW_IMAGES = 20
"""Training images of a class below which the report has a note."""
SIZE_STEP_PX = 32
"""Default resolutions are multiples of this, so that every stride divides them."""

Shape = tuple[int, int, int]


class LoadDataset(Protocol):
    def __call__(self, name: str, *, input_shape: Shape | None = None) -> Dataset: ...


class Start(NamedTuple):
    """A trained network for the data's resolution and classes, and the data normalised for it."""

    network: PretrainedNetwork
    dataset: Dataset
    source: Architecture
    """The network before it was adapted to the data."""
    data: str
    """The data set as `hwnas.data.datasets.load_dataset` takes it."""
    load: LoadDataset
    siblings: tuple[PretrainedNetwork, ...] = ()
    """Other trained networks for the same images and classes."""
    knows_classes: bool = False
    """Whether the classes of the data are those of the network, in the same order, so that its
    classifier stays."""

    def dataset_at(self, input_shape: Shape) -> Dataset:
        """Return the data with images of another shape, normalised as the network expects."""
        return _normalised(self.load(self.data, input_shape=input_shape), self.network)

    def space(self, precision: str) -> SearchSpace:
        """Return the space of the networks that can be cut from the network."""
        return in_precision(elastic_space(self.network.name, self.network.architecture), precision)


def find_start(spec: RunSpec, load: LoadDataset) -> Start:
    """Load the network that a run starts from, and the data in its resolution and normalisation.

    Raises `UsageError` for options that have no meaning for a trained network.
    """
    check_options(spec)
    start = start_from(spec.pretrained, spec.data, spec.resolution, load)
    return start._replace(siblings=tuple(_sibling(name, start) for name in spec.siblings))


def start_from(name: str, data: str, resolution: int | None, load: LoadDataset) -> Start:
    """Load a trained network, and data normalised for it. The default ``resolution`` is that of
    `default_size`.
    """
    given = None if resolution is None else (3, resolution, resolution)
    source = load_pretrained(name, given)
    channels, native_px, _ = source.architecture.input_shape
    size = resolution or _default_size(native_px, data)
    dataset = load(data, input_shape=(channels, size, size))
    if dataset.answers_of:
        source = source._replace(classes=dataset.classes)
    network = source.at(dataset.input_shape, dataset.classes)
    knows_classes = dataset.classes == source.classes
    dataset = _normalised(_with_note(dataset), network)
    return Start(network, dataset, source.architecture, data, load, knows_classes=knows_classes)


def _with_note(dataset: Dataset) -> Dataset:
    """Return the data with a note for the report if a class has few images."""
    if dataset.answers_of:
        return dataset
    counts = np.bincount(dataset.train.labels, minlength=dataset.num_classes)
    few = np.flatnonzero(counts < FEW_IMAGES)
    if not len(few):
        return dataset
    rarest = few[counts[few].argmin()]
    note = (
        f"{len(few)} of {dataset.num_classes} classes have fewer than {FEW_IMAGES} training images "
        f"({dataset.classes[rarest]!r} has {counts[rarest]}): their accuracy is uncertain, and the "
        "weights before the tuning are kept where no epoch is better."
    )
    return msgspec.structs.replace(dataset, notes=(*dataset.notes, note))


def _sibling(name: str, start: Start) -> PretrainedNetwork:
    """Return another trained network for the images and classes that a run starts with.

    Its images are normalised as those of the network that is cut, so that all files of a run take
    the same images. Raises `UsageError` if it is the network that is cut.
    """
    shape = start.dataset.input_shape
    network = load_pretrained(name, shape)
    if network.architecture.blocks == start.source.blocks:
        raise UsageError(
            f"--siblings {name}: it is the network that is cut (--from), which is compared with "
            "anyway, at each resolution"
        )
    return network.at(shape, start.dataset.classes).normalised_as(start.network.preprocessing)


def check_options(spec: RunSpec) -> None:
    """Raise `UsageError` for options that have no meaning for a trained network."""
    start = f"--from {spec.pretrained}"
    if spec.strategy != "elastic":
        raise UsageError(
            f"{start}: a trained network is cut by strategy elastic, not "
            f"{spec.strategy}; leave --strategy out"
        )
    if spec.space != "mobile":
        raise UsageError(
            f"{start}: the space is what can be cut from that network; leave "
            f"--space {spec.space} out"
        )
    if spec.width_mults and spec.width_mult != 1:
        raise UsageError(f"{start}: widths are cut, not multiplied; leave --width-mult out")


def _default_size(native_px: int, data: str) -> int:
    """Return the resolution for a data set; a network keeps its own for its own classes."""
    is_answered = data.endswith(ANSWERS_SUFFIX)
    return native_px if is_answered else default_size(native_px, median_photo_px(data))


def default_size(native_px: int, photo_px: float | None) -> int:
    """Return the resolution in which a network is tuned: its own, less for small photos.

    ``photo_px`` is the shorter side of most photos, ``None`` for other images.
    """
    if photo_px is None:
        return native_px
    size = MAX_ENLARGEMENT * photo_px
    return min(native_px, SIZE_STEP_PX * max(1, round(size / SIZE_STEP_PX)))


def _normalised(dataset: Dataset, network: PretrainedNetwork) -> Dataset:
    return dataset.normalised_by(network.preprocessing.mean, network.preprocessing.std)
