"""PyTorch's padding, the same at both sides of an axis, in TFLite's terms.

A window of ``window`` pixels, ``dilation`` apart, moves along an axis of ``size`` pixels by
``stride``; PyTorch adds ``padding`` at both ends. TFLite's SAME adds as little as it needs, and
where that is odd, one more at the end.
"""

from __future__ import annotations

import numpy as np


def is_same(size: int, padding: int, window: int, stride: int, dilation: int) -> bool:
    """Whether PyTorch's padding is what SAME adds along this axis."""
    steps = -(-size // stride)
    return max((steps - 1) * stride + (window - 1) * dilation + 1 - size, 0) == 2 * padding


def amounts(size: int, padding: int, window: int, stride: int, dilation: int) -> tuple[int, int]:
    """Return what to add before and after; pixels that no window reaches are not added."""
    reach = (window - 1) * dilation + 1
    steps = (size + 2 * padding - reach) // stride
    return padding, max(steps * stride + reach - size - padding, 0)


def counts(
    size: int, padding: int, window: int, stride: int, dilation: int
) -> np.ndarray[tuple[int], np.dtype[np.int64]]:
    """Return for each window how many of its pixels are not padding."""
    steps = (size + 2 * padding - (window - 1) * dilation - 1) // stride + 1
    pixels = np.arange(steps)[:, None] * stride - padding + np.arange(window) * dilation
    return ((pixels >= 0) & (pixels < size)).sum(axis=1)
