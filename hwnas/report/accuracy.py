"""Accuracies in the report: shares of images from 0 to 1."""

from __future__ import annotations

from typing import Self

import msgspec

from hwnas.measurement.statistics import wilson_interval


class ClassAccuracy(msgspec.Struct, frozen=True):
    """Accuracy on the test images of one class."""

    name: str
    accuracy: float


class Accuracy(msgspec.Struct, frozen=True, kw_only=True):
    """Accuracy on the held-out test images, which influenced no choice."""

    test_images: int
    torch: float
    artifact: float | None = None
    """Accuracy of the delivered file in its own runtime."""
    ci95: tuple[float, float] | None = None
    """95 % Wilson interval of `shown`."""
    validation: float | None = None
    top5: float | None = None
    """Top-5 accuracy of `shown`, for 20 classes and more."""
    balanced: float | None = None
    """Mean over classes of `shown`; only if a class has at least 1.5 times the images of
    another."""
    hits: str = ""
    """Whether each test image is classified correctly, as
    `hwnas.measurement.classification.packed_hits`; empty in older reports."""
    classes: tuple[ClassAccuracy, ...] = ()
    """`shown` for each class that has test images, the lowest first."""

    @classmethod
    def with_interval(
        cls,
        test_images: int,
        *,
        torch: float,
        artifact: float | None,
        validation: float | None = None,
        top5: float | None = None,
        balanced: float | None = None,
        hits: str = "",
        classes: tuple[ClassAccuracy, ...] = (),
    ) -> Self:
        """Return the accuracies with the interval of `shown`."""
        return cls(
            test_images=test_images,
            torch=torch,
            artifact=artifact,
            ci95=wilson_interval(torch if artifact is None else artifact, test_images),
            validation=validation,
            top5=top5,
            balanced=balanced,
            hits=hits,
            classes=classes,
        )

    @property
    def shown(self) -> float:
        """Accuracy of the delivered file, or in PyTorch if the file was not run."""
        return self.torch if self.artifact is None else self.artifact
