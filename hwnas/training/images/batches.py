"""Batches of training images; each is a function of the seed and its number.

So the number of workers and ranks, and the storage of the images (memory of the device or the host,
a memory-mapped file, image files) change only the rounding, and a training can continue at any
step.
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable, Generator, Iterator
from functools import partial
from itertools import count
from typing import NamedTuple

import torch
from msgspec.structs import replace
from torch import Tensor

from hwnas.data.stored import StoredImages
from hwnas.errors import UsageError
from hwnas.training.distributed import ranks, shard
from hwnas.training.images.augment import (
    Augmentation,
    Draws,
    crop_boxes,
    cut_out,
    draw,
    mirrored,
    mix,
    moved,
    recoloured,
)
from hwnas.training.images.loader import Batch, Data, ReadAhead, channels_last, chunks
from hwnas.training.seeds import seeded


class _Part(NamedTuple):
    """This rank's images of a batch: rows of the data, and their random numbers."""

    rows: Tensor
    draws: Draws
    augmentation: Augmentation


class Batches:
    """The augmented batches of a training: this rank's equal part of each.

    Passes over the images are shuffled, and an incomplete last batch of each is dropped. An epoch
    is a pass, or a part of it: the batches are the same.
    """

    def __init__(
        self,
        data: Data,
        batch_size: int,
        augmentation: Augmentation,
        seed: int,
        whole_from: int | None = None,
        epoch_images: int = 0,
    ) -> None:
        """Images are neither cropped nor shifted in step ``whole_from`` and later ones. An epoch
        has ``epoch_images``, 0: all. Raises `UsageError` where a batch can't be split into equal
        parts for the ranks, or a part into the pairs of images that are mixed."""
        self.data, self.augmentation, self.seed = data, augmentation, seed
        images = len(data.labels)
        unit = 2 * ranks() if augmentation.mixes else ranks()
        self.batch_size = batch_size if batch_size <= images else images - images % unit
        self.shard = shard(self.batch_size)
        self.whole_from = whole_from
        self.pass_steps = max(1, images // self.batch_size)
        """Batches of a pass over all images."""
        self.steps = min(self.pass_steps, max(1, (epoch_images or images) // self.batch_size))
        """Batches of an epoch."""
        if augmentation.mixes:
            _check_pairs(self.batch_size)
        self.waited_s = 0.0
        """Time in seconds that the training waited for images."""
        self._order = (-1, torch.empty(0))

    def batch(self, step: int) -> Batch:
        """Return the batch of a step, counted from the first epoch's first."""
        part = self._part(step)
        images = self.data.images
        if isinstance(images, Tensor):
            return self._made(self.data.read(part.rows), part)
        return self._made(torch.cat([job() for job in self._jobs(images, part)]), part)

    def from_step(self, first: int) -> Generator[Batch]:
        """Yield the batches of ``first`` and all later steps, without end."""
        batches = self._read_ahead(first) if self._reads_ahead else map(self.batch, count(first))
        while True:
            start = time.perf_counter()
            batch = next(batches)
            self.waited_s += time.perf_counter() - start
            yield batch

    @property
    def _reads_ahead(self) -> bool:
        """Whether images must be read or copied to a device before they can be used."""
        return not isinstance(self.data.images, Tensor) or (
            self.data.images.device.type != self.data.compute.kind
        )

    def _read_ahead(self, first: int) -> Iterator[Batch]:
        images, waiting = self.data.images, deque[_Part]()

        def jobs() -> Iterator[list[Callable[[], Tensor]]]:
            for part in map(self._part, count(first)):
                waiting.append(part)
                if isinstance(images, Tensor):
                    yield [partial(self.data.read, part.rows)]
                else:
                    yield self._jobs(images, part)

        with ReadAhead() as reader:
            for read in reader.results(jobs()):
                yield self._made(torch.cat(read), waiting.popleft())

    def _part(self, step: int) -> _Part:
        turn, number = divmod(step, self.pass_steps)
        if self._order[0] != turn:
            generator = seeded(self.seed, "order", turn)
            order = torch.randperm(len(self.data.labels), generator=generator)
            self._order = (turn, order)
        rows = self._order[1][number * self.batch_size : (number + 1) * self.batch_size]
        augmentation = self.augmentation
        if self.whole_from is not None and step >= self.whole_from:
            augmentation = replace(augmentation, min_crop_area=0.0, shift=0.0)
        draws = draw(augmentation, self.batch_size, self.seed, turn, number)
        return _Part(rows[self.shard], draws.part(self.shard), augmentation)

    def _jobs(self, images: StoredImages, part: _Part) -> list[Callable[[], Tensor]]:
        """Return the jobs that read the parts of a batch, cropped if there are crops."""
        if part.augmentation.min_crop_area <= 0:
            return [partial(self.data.read, rows) for rows in chunks(part.rows)]
        boxes = crop_boxes(part.augmentation, part.draws, images.sizes[part.rows.numpy()])
        pairs = zip(chunks(part.rows), chunks(torch.from_numpy(boxes)), strict=True)
        return [partial(_crops, images, rows, chunk) for rows, chunk in pairs]

    def _made(self, images: Tensor, part: _Part) -> Batch:
        """Return the batch of images ``[n, C, H, W]`` that were read."""
        data, augmentation, draws = self.data, part.augmentation, part.draws
        if data.compute.kind == "cuda" and images.device.type == "cpu":
            images = images.pin_memory()
        images, labels = data.compute.put(images), data.compute.put(data.labels[part.rows])
        if augmentation.min_crop_area > 0 and not isinstance(data.images, Tensor):
            images = mirrored(images, augmentation, draws)
        else:
            images = moved(images, augmentation, draws)
        images = recoloured(images, augmentation, draws)
        images = cut_out(data.normalise(images), augmentation, draws)
        if augmentation.mixes:
            return mix(images, labels, draws, data.classes)
        return images, labels


def _crops(images: StoredImages, rows: Tensor, boxes: Tensor) -> Tensor:
    return channels_last(images.crops(rows.numpy(), boxes.numpy()))


def _check_pairs(batch_size: int) -> None:
    part = batch_size // ranks()
    if part % 2:
        raise UsageError(
            f"mixup and CutMix mix pairs of images, but a batch of {batch_size} images is {part} "
            f"for each of {ranks()} rank{'s' * (ranks() > 1)}; expected an even number, as with "
            f"batches of {(part + 1) * ranks()} images"
        )
