"""A page stays small, also with what makes it large."""

from __future__ import annotations

import msgspec
import numpy as np
from PIL import Image

from hwnas.data.thumbnails import thumbnail
from hwnas.report.images import ClassCount, DataCard, SampleImage
from hwnas.report.schema import SearchPoint
from hwnas.specialize.card import SAMPLE_PX, SAMPLES
from hwnas.specialize.results.compose import CURVE_POINTS
from tests.report.test_cell_networks import SPACE, report_of

SIDE = 224


def test_a_page_of_the_longest_search_and_a_thousand_classes_has_less_than_a_megabyte() -> None:
    rng = np.random.default_rng(0)
    noise = rng.integers(0, 256, (SAMPLES, SIDE, SIDE, 3), dtype=np.uint8)  # hard to compress
    samples = [SampleImage("a class", thumbnail(Image.fromarray(n), SAMPLE_PX)) for n in noise]
    classes = [ClassCount(f"class {number}", 400, 100, 100) for number in range(1000)]
    search = [
        SearchPoint(
            step=step,
            phase="search",
            loss=rng.random(),
            accuracy=rng.random(),
            entropy=rng.random(),
            expected_ms=rng.random(),
            multiplier=rng.random(),
            skips=step % 8,
            reduction_skips=step % 7,
            eigenvalue=rng.random(),
            budget_ms=0.25,
        )
        for step in range(2 * CURVE_POINTS)
    ]
    report = report_of(SPACE.default)
    assert report.dataset is not None
    card = DataCard(classes=tuple(classes), samples=tuple(samples))
    report = msgspec.structs.replace(
        report,
        dataset=msgspec.structs.replace(report.dataset, card=card),
        search=tuple(search),
    )
    assert len(report.html().encode()) < 1_000_000
