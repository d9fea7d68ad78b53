"""Speeds as text, and when the remedy for waiting is named."""

from __future__ import annotations

from typing import Any, cast

import numpy as np
import pytest

from hwnas.data.photos.decoding import DecodedImages
from hwnas.specialize.context import Candidate
from hwnas.specialize.progress import (
    SHOWN_NETWORKS,
    WaitingRemedy,
    combined,
    speed_text,
    standings,
)
from hwnas.training.compute import CPU, Compute
from hwnas.training.log import EpochLog
from tests.support.tiny import tiny_space

FILES = DecodedImages(cast(Any, None), np.arange(3))


def speed(images_per_s: float, waiting: float, peak_bytes: int) -> EpochLog:
    return EpochLog(1, 2, 0.0, 0.0, images_per_s, waiting, peak_bytes)


def test_a_speed_is_images_waiting_and_memory() -> None:
    assert (
        speed_text(speed(4321.4, 0.031, 1_250_000_000), CPU)
        == "4,321 img/s, 3% waiting for images, 1.2 GB of memory"
    )
    on_gpu = speed_text(speed(2.34, 0, 12_000_000_000), Compute("cuda:0"))
    assert on_gpu == "2.3 img/s, 0% waiting for images, 12 GB of GPU memory"


def test_trainings_side_by_side_add_up() -> None:
    assert combined([speed(100, 0.1, 5), speed(50, 0.3, 7)]) == (150, pytest.approx(0.2), 12)


@pytest.mark.parametrize(
    ("images", "waiting", "remedy"),
    [
        (FILES, 0.2, None),
        (FILES, 0.21, "21% of the time waits for images; `hwnas data pack photos` makes"),
        (object(), 0.5, "50% of the time waits for images; a faster disk or more cores"),
        (np.zeros((2, 1, 4, 4), np.uint8), 0.9, None),
    ],
)
def test_the_remedy_for_waiting_is_printed_once(
    images: object, waiting: float, remedy: str | None
) -> None:
    lines: list[str] = []
    reporter = WaitingRemedy(images, "photos", lines.append)
    reporter.check(waiting)
    reporter.check(waiting)
    assert len(lines) == (remedy is not None)
    assert remedy is None or lines[0].startswith(remedy)


def test_the_best_networks_within_the_budget_stand_first() -> None:
    space = tiny_space(widths=(8,))
    common = {"architecture": space.architecture(space.default), "predicted_ms": 2.0}
    candidates = [
        Candidate(name="slow", origin="search", measured_ms=3, supernet_accuracy=0.9, **common),
        Candidate(name="worse", origin="search", supernet_accuracy=0.5, **common),
        Candidate(name="better", origin="search", measured_ms=1, supernet_accuracy=0.6, **common),
        Candidate(name="baseline", origin="uniform", supernet_accuracy=1.0, **common),
    ]
    assert standings(candidates, budget_ms=2.5) == [
        ("better", "1 ms measured", "60.0% with the supernet's weights"),
        ("worse", "2 ms predicted", "50.0% with the supernet's weights"),
        ("slow", "3 ms measured, over the budget", "90.0% with the supernet's weights"),
    ]
    digest = candidates[0].architecture.digest
    assert standings(candidates[:1], 4, {digest: "epoch 3"}) == [
        ("slow", "3 ms measured", "epoch 3")
    ]
    assert len(standings(candidates[:3] * 5, 2.5)) == SHOWN_NETWORKS
