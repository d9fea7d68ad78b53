"""PyTorch's padding of an axis, in TFLite's terms.

A window of ``window`` pixels, ``dilation`` apart, moves along an axis of ``size`` pixels by
``stride``; before and after the axis there are added ``padding`` pixels. TFLite's SAME adds as
little as it needs, and where that is odd, one more at the end.
"""

from __future__ import annotations

import numpy as np

Padding = tuple[int, int]


def is_same(size: int, padding: Padding, window: int, stride: int, dilation: int) -> bool:
    """Whether PyTorch's padding is what SAME adds along this axis."""
    steps = -(-size // stride)
    needed = max((steps - 1) * stride + (window - 1) * dilation + 1 - size, 0)
    found = _steps(size, padding, window, stride, dilation)
    return found == steps and padding[0] == needed // 2


def amounts(size: int, padding: Padding, window: int, stride: int, dilation: int) -> Padding:
    """Return what to add before and after; pixels that no window reaches are not added."""
    steps = _steps(size, padding, window, stride, dilation) - 1
    reach = (window - 1) * dilation + 1
    return padding[0], max(steps * stride + reach - size - padding[0], 0)


def counts(
    size: int, padding: Padding, window: int, stride: int, dilation: int
) -> np.ndarray[tuple[int], np.dtype[np.int64]]:
    """Return for each window how many of its pixels are not padding."""
    steps = _steps(size, padding, window, stride, dilation)
    pixels = np.arange(steps)[:, None] * stride - padding[0] + np.arange(window) * dilation
    return ((pixels >= 0) & (pixels < size)).sum(axis=1)


def _steps(size: int, padding: Padding, window: int, stride: int, dilation: int) -> int:
    return (size + sum(padding) - (window - 1) * dilation - 1) // stride + 1
