"""Images of a split, in memory or in files, and batches of them in order."""

from __future__ import annotations

import hashlib
import math
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from functools import partial
from itertools import islice
from pathlib import Path
from typing import NamedTuple, TypeVar

import numpy as np
import torch
from torch import Tensor

from hwnas.data.datasets import Dataset, Split
from hwnas.data.images import images_at_once
from hwnas.data.stored import StoredImages
from hwnas.processes import cores, local_ranks
from hwnas.training.checkpoint import load_checkpoint, save_checkpoint
from hwnas.training.compute import CPU, Compute, free_bytes, put_on
from hwnas.training.seeds import seeded

Batch = tuple[Tensor, Tensor]
"""Normalised images ``[N, C, H, W]``, and labels ``[N]`` or probabilities ``[N, classes]``."""

DEVICE_SHARE = 0.25
"""Share of a GPU's free memory that images may take."""
MAX_READERS = 16
"""Threads that read images."""
CHUNK_IMAGES = 16
"""Images that a thread reads at a time."""

T = TypeVar("T")


class Data(NamedTuple):
    """Images as bytes, with the statistics that normalise a batch of them."""

    images: Tensor | StoredImages
    """uint8 ``[N, C, H, W]``, channels last in memory, or images that are read when needed."""
    labels: Tensor
    """int64 ``[N]``, on the host."""
    mean: Tensor
    """Mean of each channel, ``[C, 1, 1]``, in 0..1."""
    std: Tensor
    """Standard deviation of each channel, ``[C, 1, 1]``, on the same scale."""
    classes: int = 0
    """Number of classes; 0: unknown, which only mixing of images needs."""
    compute: Compute = CPU
    """Device and precision of batches."""

    @property
    def digest(self) -> str:
        """Digest of number, shape and labels of the images, without reading any."""
        digest = hashlib.sha256(str(tuple(self.images.shape)).encode())
        digest.update(self.labels.numpy().tobytes())
        return digest.hexdigest()

    def placed(self, compute: Compute) -> Data:
        """Return data whose batches are on a device; the images too, if its memory is large
        enough."""
        images = self.images
        if isinstance(images, Tensor):
            images = images.cpu()
            if compute.kind != "cpu" and (
                images.numel() <= DEVICE_SHARE * free_bytes(compute.device)
            ):
                images = compute.put(images)
        mean, std = (compute.put(values) for values in (self.mean, self.std))
        return self._replace(images=images, mean=mean, std=std, compute=compute)

    def normalise(self, images: Tensor) -> Tensor:
        """Return float images as the network expects them, from pixels of 0 to 255."""
        return (images.float() / 255 - self.mean) / self.std

    def sample(self, count: int, seed: int) -> Data:
        """Return up to ``count`` random images, in memory; files may be sorted by class."""
        rows = torch.randperm(len(self.labels), generator=seeded(seed, "drawn"))[:count]
        return self._replace(images=self.read(rows), labels=self.labels[rows])

    def read(self, rows: Tensor) -> Tensor:
        """Return the images of ``rows``, uint8 ``[n, C, H, W]``, without augmentation."""
        if isinstance(self.images, Tensor):
            return self.images[put_on(self.images.device, rows)]
        return channels_last(self.images[rows.numpy()])

    def tensors(self) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """Return images, labels, mean and standard deviation, all in memory."""
        images = self.images
        if not isinstance(images, Tensor):
            images = self.read(torch.arange(len(self.labels)))
        return images, self.labels, self.mean, self.std

    def in_order(self, batch_size: int | None = None) -> Iterator[Batch]:
        """Yield batches of all images in their order, by default `images_at_once`."""
        batch_size = batch_size or images_at_once(math.prod(self.images.shape[2:]))
        parts = torch.arange(len(self.labels)).split(batch_size)
        put = self.compute.put
        for rows, images in zip(parts, self._read_all(parts), strict=True):
            yield self.normalise(put(images)), put(self.labels[rows])

    def _read_all(self, parts: Iterable[Tensor]) -> Iterator[Tensor]:
        if isinstance(self.images, Tensor):
            yield from map(self.read, parts)
            return
        with ReadAhead() as reader:
            jobs = ([partial(self.read, chunk) for chunk in chunks(rows)] for rows in parts)
            for images in reader.results(jobs):
                yield torch.cat(images)


def chunks(rows: Tensor) -> Iterable[Tensor]:
    """Split the rows of a batch into parts that threads read side by side."""
    return rows.split(CHUNK_IMAGES)


def channels_last(images: np.ndarray) -> Tensor:
    return torch.from_numpy(images).contiguous(memory_format=torch.channels_last)


class ReadAhead:
    """Threads that read images while batches are computed; a context manager.

    Pillow decodes and resizes without Python's lock, so that threads use all cores.
    """

    def __init__(self, readers: int | None = None, ahead: int = 3) -> None:
        """``ahead`` batches are read before they are needed; ``readers`` None: one each core."""
        self.ahead = ahead
        own_cores = max(1, cores() // local_ranks())
        self._pool = ThreadPoolExecutor(readers or min(MAX_READERS, own_cores))

    def __enter__(self) -> ReadAhead:
        return self

    def __exit__(self, *_: object) -> None:
        self._pool.shutdown(wait=True, cancel_futures=True)

    def results(self, batches: Iterable[list[Callable[[], T]]]) -> Iterator[list[T]]:
        """Yield the results of each batch's jobs, in order; ``batches`` may be endless."""
        waiting: deque[list[Future[T]]] = deque()
        batches = iter(batches)
        while True:
            for jobs in islice(batches, self.ahead - len(waiting)):
                waiting.append([self._pool.submit(job) for job in jobs])
            if not waiting:
                return
            yield [future.result() for future in waiting.popleft()]


def as_data(split: Split, dataset: Dataset, compute: Compute = CPU) -> Data:
    """Return a split of ``dataset``, with batches on a device."""
    channel = (-1, 1, 1)
    images = split.images
    data = Data(
        channels_last(images) if isinstance(images, np.ndarray) else images,
        torch.from_numpy(np.ascontiguousarray(split.labels)),
        torch.tensor(dataset.mean).view(channel),
        torch.tensor(dataset.std).view(channel),
        dataset.num_classes,
    )
    return data.placed(compute)


SAVED = ("images", "labels", "mean", "std")
"""Fields of `Data` that `write_images` writes."""


def write_images(path: Path, train_images: Data, valid_images: Data) -> None:
    """Write training and validation images to a file for trainings in other processes."""
    tensors = {
        f"{split}.{name}": value
        for split, data in (("train", train_images), ("valid", valid_images))
        for name, value in zip(SAVED, data.tensors(), strict=True)
    }
    save_checkpoint(path, tensors, {"classes": str(train_images.classes)})


def read_images(path: Path) -> tuple[Data, Data]:
    """Return the training and validation images that `write_images` wrote."""
    tensors, notes = load_checkpoint(path)

    def split(name: str) -> Data:
        images, labels, mean, std = (tensors[f"{name}.{field}"] for field in SAVED)
        images = images.contiguous(memory_format=torch.channels_last)
        return Data(images, labels, mean, std, int(notes["classes"]))

    return split("train"), split("valid")
