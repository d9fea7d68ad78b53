"""Images that are read when they are indexed."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np
import pytest
from PIL import Image
from PIL.Image import Resampling

from hwnas.data.images import fit_image
from hwnas.data.splits import MAX_LOADED, Split, cut_classes
from hwnas.data.stored import DecodedImages

SHAPE = (3, 6, 6)


class Noise:
    """Photos of noise, 10 to 20 px wide and 12 px high."""

    def __init__(self, count: int) -> None:
        rng = np.random.default_rng(0)
        self.images = [
            Image.fromarray(rng.integers(0, 256, (12, 10 + row % 11, 3), dtype=np.uint8))
            for row in range(count)
        ]

    def __len__(self) -> int:
        return len(self.images)

    def name(self, row: int) -> str:
        return f"{row}.png"

    @contextmanager
    def open(self, row: int) -> Iterator[Image.Image]:
        yield self.images[row]


def stored(count: int = 20) -> DecodedImages:
    noise = Noise(count)
    sizes = np.array([(image.height, image.width) for image in noise.images], dtype=np.int32)
    return DecodedImages(noise, sizes, SHAPE)


def test_indexing_gives_the_fitted_images_of_these_rows() -> None:
    images = stored()
    assert images.shape == (20, *SHAPE) and len(images) == 20
    expected = [fit_image(image, SHAPE) for image in Noise(20).images]
    np.testing.assert_array_equal(images[3:7], expected[3:7])
    np.testing.assert_array_equal(images[np.array([9, 2])], [expected[9], expected[2]])
    assert images[20:].shape == (0, *SHAPE)


def test_a_crop_is_pillows_resize_of_that_box() -> None:
    images = stored()
    crops = images.crops(np.array([5]), np.array([[0.2, 0.25, 0.6, 1.0]], dtype=np.float32))
    image = Noise(20).images[5]
    left, right = (float(np.float32(share)) * image.width for share in (0.2, 0.6))
    expected = image.resize((6, 6), Resampling.BILINEAR, box=(left, 3, right, 12))
    np.testing.assert_array_equal(crops[0], np.asarray(expected).transpose(2, 0, 1))


def test_a_subset_of_a_subset_has_the_rows_of_its_rows() -> None:
    images = stored()
    part = images.subset(np.array([4, 8, 12])).subset(np.array([2, 0]))
    np.testing.assert_array_equal(part[:], images[np.array([12, 4])])
    assert part.sizes.tolist() == images.sizes[[12, 4]].tolist()


def test_stored_images_are_cut_as_the_array_of_them() -> None:
    images, labels = stored(), np.arange(20) % 2
    for part, expected in zip(
        cut_classes(Split(images, labels), "ab", 0.3, "here"),
        cut_classes(Split(images[:], labels), "ab", 0.3, "here"),
        strict=True,
    ):
        np.testing.assert_array_equal(part.images[:], expected.images)
        assert part.labels.tolist() == expected.labels.tolist()


def test_only_the_first_of_many_stored_images_are_loaded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("hwnas.data.splits.MAX_LOADED", 3)
    split = Split(stored(), np.arange(20))
    assert split.loaded().labels.tolist() == [0, 1, 2] and len(split.loaded().images) == 3
    assert len(Split(stored()[:], np.arange(20)).loaded().labels) == 20
    assert MAX_LOADED == 2_000
