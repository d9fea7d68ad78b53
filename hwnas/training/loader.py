"""Images in memory and the batches of an epoch; all randomness follows from seeds and names."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from hwnas.data.datasets import Dataset, Split
from hwnas.training.checkpoint import load_checkpoint, save_checkpoint
from hwnas.training.distributed import ranks

Batch = tuple[Tensor, Tensor]
"""Normalised images ``[N, C, H, W]`` and labels ``[N]``."""


class Data(NamedTuple):
    """Images as bytes, with the statistics that normalise a batch of them."""

    images: Tensor
    """uint8 ``[N, C, H, W]``, channels last in memory."""
    labels: Tensor
    """int64 ``[N]``."""
    mean: Tensor
    """Mean of each channel, ``[C, 1, 1]``, in 0..1."""
    std: Tensor
    """Standard deviation of each channel, ``[C, 1, 1]``, on the same scale."""

    def normalise(self, images: Tensor) -> Tensor:
        """Return float images as the network expects them."""
        return (images.float() / 255 - self.mean) / self.std

    def sample(self, count: int, seed: int) -> Data:
        """Return up to ``count`` images drawn at random, as files may be sorted by class."""
        rows = torch.randperm(len(self.labels), generator=seeded(seed, "drawn"))[:count]
        return self._replace(images=self.images[rows], labels=self.labels[rows])

    def in_order(self, batch_size: int = 250) -> Iterator[Batch]:
        """Yield batches of all images in their order."""
        for images, labels in zip(
            self.images.split(batch_size), self.labels.split(batch_size), strict=True
        ):
            yield self.normalise(images), labels


def seeded(seed: int, *words: str | int) -> torch.Generator:
    """Return a generator that depends on ``seed`` and ``words`` only."""
    return torch.Generator().manual_seed(derived_seed(seed, *words))


def derived_seed(seed: int, *words: str | int) -> int:
    """Return 63 bits from ``seed`` and ``words``, the same on every machine."""
    text = "/".join(map(str, (seed, *words))).encode()
    return int.from_bytes(hashlib.sha256(text).digest()[:8], "big") >> 1


def as_data(split: Split, dataset: Dataset) -> Data:
    """Return a split of ``dataset`` as tensors."""
    channel = (-1, 1, 1)
    return Data(
        torch.from_numpy(split.images[:]).contiguous(memory_format=torch.channels_last),
        torch.from_numpy(np.ascontiguousarray(split.labels)),
        torch.tensor(dataset.mean).view(channel),
        torch.tensor(dataset.std).view(channel),
    )


def batches(
    data: Data, batch_size: int, generator: torch.Generator, flip: bool = True
) -> Iterator[Batch]:
    """Yield augmented batches of one shuffled pass; an incomplete last batch is dropped.

    Each image is shifted by up to 1/14 of its size, and mirrored with probability 1/2.
    """
    if batch_size > len(data.images):
        batch_size = len(data.images) - len(data.images) % ranks()
    order = torch.randperm(len(data.images), generator=generator)
    for start in range(0, len(order) - batch_size + 1, batch_size):
        rows = order[start : start + batch_size]
        images = augment(data.images[rows], generator, flip)
        yield data.normalise(images), data.labels[rows]


def augment(images: Tensor, generator: torch.Generator, flip: bool) -> Tensor:
    """Shift and mirror each image of ``[N, C, H, W]`` independently; edges repeat the border."""
    count, _, size, _ = images.shape
    reach = max(1, size // 14)
    shift = torch.randint(-reach, reach + 1, (2, count, 1), generator=generator)
    rows, columns = (torch.arange(size) + shift).clamp_(0, size - 1)
    if flip:
        mirrored = torch.rand(count, generator=generator) < 0.5
        columns[mirrored] = columns[mirrored].flip(1)
    channels_last = images.permute(0, 2, 3, 1)
    picked = channels_last[
        torch.arange(count)[:, None, None], rows[:, :, None], columns[:, None, :]
    ]
    return picked.permute(0, 3, 1, 2)


def write_images(path: Path, train_images: Data, valid_images: Data) -> None:
    """Write training and validation images to a file for trainings in other processes."""
    tensors = {
        f"{split}.{name}": value
        for split, data in (("train", train_images), ("valid", valid_images))
        for name, value in data._asdict().items()
    }
    save_checkpoint(path, tensors, {})


def read_images(path: Path) -> tuple[Data, Data]:
    """Return the training and validation images that `write_images` wrote."""
    tensors, _ = load_checkpoint(path)

    def split(name: str) -> Data:
        data = Data(**{field: tensors[f"{name}.{field}"] for field in Data._fields})
        images = data.images.contiguous(memory_format=torch.channels_last)
        return data._replace(images=images)

    return split("train"), split("valid")
