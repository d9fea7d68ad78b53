"""The data card of a report: the images that a network was trained and tested on."""

from __future__ import annotations

import msgspec


class ClassCount(msgspec.Struct, frozen=True):
    """Images of a class."""

    name: str
    train: int
    valid: int
    test: int

    @property
    def total(self) -> int:
        return self.train + self.valid + self.test


class SampleImage(msgspec.Struct, frozen=True):
    """A training image."""

    label: str
    picture: str
    """Data URI of a thumbnail."""


class DataCard(msgspec.Struct, frozen=True, kw_only=True):
    """Counts, sizes, balance and duplicates of a data set, and some of its images."""

    classes: tuple[ClassCount, ...]
    split: str = ""
    """How the splits were made."""
    sizes: str = ""
    """Sizes of the originals, height x width."""
    input_shape: tuple[int, int, int] = (0, 0, 0)
    balance: str = ""
    """A sentence on unbalanced classes; empty if no class has 1.5 times the images of another."""
    duplicates: str = ""
    """A sentence on duplicate images, or that there are none."""
    leaks: int = 0
    """Number of images that are both in the test images and in the training or validation
    images."""
    warnings: tuple[str, ...] = ()
    """Reasons to doubt an accuracy on these images."""
    samples: tuple[SampleImage, ...] = ()
