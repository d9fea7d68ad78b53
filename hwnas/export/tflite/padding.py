"""PyTorch's padding of an axis in TFLite's terms.

A window of ``window`` pixels, ``dilation`` apart, moves by ``stride`` along an axis of ``size``
pixels, with ``padding`` pixels added before and after. TFLite's SAME adds as few pixels as are
needed; of an odd number, it adds the extra pixel at the end.
"""

from __future__ import annotations

import numpy as np

Padding = tuple[int, int]


def is_same(size: int, padding: Padding, window: int, stride: int, dilation: int) -> bool:
    """Return whether SAME pads this axis as PyTorch does."""
    steps = -(-size // stride)
    total = max((steps - 1) * stride + (window - 1) * dilation + 1 - size, 0)
    return _steps(size, padding, window, stride, dilation) == steps and padding[0] == total // 2


def explicit_padding(
    size: int, padding: Padding, window: int, stride: int, dilation: int
) -> Padding:
    """Return the pixels to add before and after, without those that no window reaches."""
    steps = _steps(size, padding, window, stride, dilation) - 1
    reach = (window - 1) * dilation + 1
    return padding[0], max(steps * stride + reach - size - padding[0], 0)


def pixels_in_window(
    size: int, padding: Padding, window: int, stride: int, dilation: int
) -> np.ndarray[tuple[int], np.dtype[np.int64]]:
    """Return for each window the number of its pixels that are not padding."""
    steps = _steps(size, padding, window, stride, dilation)
    pixels = np.arange(steps)[:, None] * stride - padding[0] + np.arange(window) * dilation
    return ((pixels >= 0) & (pixels < size)).sum(axis=1)


def _steps(size: int, padding: Padding, window: int, stride: int, dilation: int) -> int:
    return (size + sum(padding) - (window - 1) * dilation - 1) // stride + 1
