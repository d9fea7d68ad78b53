"""How many images are evaluated at once."""

from __future__ import annotations

from hwnas.data.images import images_at_once


def test_larger_images_are_evaluated_in_smaller_batches() -> None:
    sizes_px = (28, 64, 160, 224, 2000)
    assert [images_at_once(size * size) for size in sizes_px] == [250, 250, 40, 20, 1]
