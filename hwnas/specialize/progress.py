"""Speed of a training or a search, and the state of its networks, as text."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import NamedTuple, Protocol

import numpy as np
from torch import Tensor

from hwnas.console import Standing
from hwnas.data.photos.decoding import DecodedImages
from hwnas.specialize.context import Candidate
from hwnas.training.compute import Compute

SHOWN_NETWORKS = 6
"""Number of networks that are shown during a run."""

MUCH_WAITING = 0.2
"""Share of the time spent waiting for images from which a remedy is named."""


class Speed(Protocol):
    """The fields that the logs of trainings and of searches have in common."""

    @property
    def images_per_s(self) -> float: ...

    @property
    def waiting(self) -> float: ...

    @property
    def peak_bytes(self) -> int: ...


class _Combined(NamedTuple):
    images_per_s: float
    waiting: float
    peak_bytes: int


def combined(speeds: Sequence[Speed]) -> Speed:
    """Return the combined speed of trainings in parallel processes."""
    return _Combined(
        sum(speed.images_per_s for speed in speeds),
        sum(speed.waiting for speed in speeds) / len(speeds),
        sum(speed.peak_bytes for speed in speeds),
    )


def speed_text(speed: Speed, compute: Compute) -> str:
    """Return e.g. ``850 img/s, 3% waiting for images, 1.2 GB of GPU memory``."""
    rate = speed.images_per_s
    images = f"{rate:,.0f}" if rate >= 10 else f"{rate:.1f}"
    memory = "memory" if compute.kind == "cpu" else "GPU memory"
    return (
        f"{images} img/s, {speed.waiting:.0%} waiting for images, "
        f"{speed.peak_bytes / 1e9:.2g} GB of {memory}"
    )


def standings(
    candidates: Sequence[Candidate], budget_ms: float, scores: Mapping[str, str] | None = None
) -> list[Standing]:
    """Return the best networks that may be delivered: those within the budget come first.

    ``scores`` are texts by the digests of the architectures; without them networks are ordered by
    the supernet's accuracy.
    """
    searched = [each for each in candidates if each.may_be_delivered]
    ordered = sorted(
        searched, key=lambda each: (each.latency_ms > budget_ms, -(each.supernet_accuracy or 0.0))
    )
    return [_standing(each, budget_ms, scores) for each in ordered[:SHOWN_NETWORKS]]


def _standing(each: Candidate, budget_ms: float, scores: Mapping[str, str] | None) -> Standing:
    kind = "predicted" if each.measured_ms is None else each.measured_kind
    over = ", over the budget" if each.latency_ms > budget_ms else ""
    if scores is not None:
        score = scores.get(each.architecture.digest, "")
    else:
        share = each.supernet_accuracy
        score = "" if share is None else f"{share:.1%} with the supernet's weights"
    unknown = each.measured_ms is None and each.predicted_ms is None
    latency = "unknown" if unknown else f"{each.latency_ms:.4g} ms {kind}{over}"
    return Standing(each.name, latency, score)


class WaitingRemedy:
    """Prints once how to shorten the waiting for images, if it is long."""

    def __init__(self, images: object, data: str, say: Callable[[str], None]) -> None:
        """``images`` are those of the data set ``data``, its name on the command line."""
        self._images, self._data, self._say = images, data, say
        self._printed = False

    def check(self, waiting: float) -> None:
        """Print the remedy if ``waiting``, a share of the time, is above `MUCH_WAITING`."""
        # images in memory are only gathered and augmented: nothing reads them quicker
        in_memory = isinstance(self._images, np.ndarray | Tensor)
        if self._printed or in_memory or waiting <= MUCH_WAITING:
            return
        self._printed = True
        remedy = "a faster disk or more cores shorten it"
        if isinstance(self._images, DecodedImages):
            remedy = f"`hwnas data pack {self._data}` makes them quicker to read"
        self._say(f"{waiting:.0%} of the time waits for images; {remedy}")
