"""Ranges of a network's values, which the 256 levels of an int8 file cover.

They are measured by running the float file on calibration images. ``minmax`` takes the extremes,
``percentile`` cuts off the same share of values at both ends, and ``entropy`` limits the absolute
value where the distribution of the rounded values is closest to the true one (Migacz, "8-bit
inference with TensorRT", GTC 2017).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np

from hwnas.errors import ExportError
from hwnas.export.recipe import Quantization
from hwnas.export.verification.metrics import Array

Ranges = dict[str, tuple[float, float]]
"""Minimum and maximum of each value, by its name."""

Values = Callable[[], Iterator[Mapping[str, Array]]]
"""Yields for each calibration image the content of every float value, by its name."""

INFINITE = 1e30
"""Values from this size represent infinity, as in the padding of a maximum or a mask; no level is
used for them."""

HISTOGRAM_BINS = 4096
"""Resolution of the histogram whose tails ``percentile`` and ``entropy`` cut off."""

SMOOTHING_BINS = 17
"""Bins over which ``entropy`` averages, so that few values in each do not look like a loss."""

LEVELS = 256

ENTROPY_STEPS = 64
"""Number of ranges that ``entropy`` tries, from `SMALLEST_SHARE` to all of the whole range."""

SMALLEST_SHARE = 1 / 16
"""Smallest share of the range, with one bin for each level."""

MAX_CLIPPED = 0.1
"""Largest share of input values outside the calibrated range."""

CLIP_MARGIN = 0.1
"""Part of the width of the range by which an input may exceed it and not count as outside."""


def measure_ranges(values: Values, quantization: Quantization) -> Ranges:
    """Return the range of every value by the calibration method of ``quantization``."""
    ranges: Ranges = {}
    for contents in values():
        for name, content in contents.items():
            low, high = ranges.get(name, (np.inf, -np.inf))
            least, largest = _finite_extremes(content)
            ranges[name] = min(low, least), max(high, largest)
    ranges = {name: each for name, each in ranges.items() if each[0] <= each[1]}
    if quantization.calibration != "minmax":
        ranges = _narrowed(values, ranges, quantization)
    return {name: _with_width(*each) for name, each in ranges.items()}


def given_dtype(array: Array) -> Any:
    """Return the type in which a file takes the values of an input."""
    return np.float32 if array.dtype.kind == "f" else array.dtype


def check_samples(inputs: Sequence[Array]) -> None:
    """Raise `ExportError` for calibration values that no range can be measured on.

    ``inputs`` have N samples each, ``[N, ...]``.
    """
    images = inputs[0]
    if len(inputs) == 1 and images.ndim == 4:
        check_images(images)
        return
    counts = sorted({len(array) for array in inputs})
    if counts[0] != counts[-1] or not counts[0]:
        raise ExportError(
            f"int8 needs the same number of samples of each input to calibrate with, got {counts}"
        )
    if not all(np.isfinite(array).all() for array in inputs):
        raise ExportError("a calibration sample has a value that is not finite")
    if counts[0] > 1 and all((array == array[0]).all() for array in inputs):
        raise ExportError(
            f"all {counts[0]} calibration samples are the same: ranges measured on them do not "
            "hold for others; expected values like those that the network will get"
        )


def check_images(images: Array) -> None:
    """Raise `ExportError` for calibration images that no range can be measured on."""
    if images.ndim != 4 or not len(images):
        raise ExportError(
            f"int8 needs calibration images [N, C, H, W], got {list(images.shape)}: the ranges of "
            "all values are measured on them"
        )
    if not np.isfinite(images).all():
        raise ExportError("a calibration image has a value that is not finite")
    if len(images) > 1 and (images == images[0]).all():
        colours = images[0].max(axis=(1, 2)), images[0].min(axis=(1, 2))
        blank = " of a single colour" if np.array_equal(*colours) else ""
        raise ExportError(
            f"all {len(images)} calibration images are the same image{blank}: ranges measured on "
            "it do not hold for others; expected images like those that the network will get"
        )


def check_covered(images: Array, calibration: Array) -> None:
    """Raise `ExportError` if the file would cut off many values of ``images``, if they are floats.

    They may also be values ``[N, ...]`` of any other input.
    """
    if images.dtype.kind != "f":
        return
    low, high = float(calibration.min()), float(calibration.max())
    margin = CLIP_MARGIN * (high - low)
    outside = float(((images < low - margin) | (images > high + margin)).mean())
    if outside > MAX_CLIPPED:
        raise ExportError(
            f"the calibration images range from {low:.3g} to {high:.3g}, the images that the file "
            f"is verified on from {images.min():.3g} to {images.max():.3g}: {outside:.0%} of their "
            "values lie outside the calibrated range; expected images of the same kind"
        )


def _finite_extremes(content: Array) -> tuple[float, float]:
    low, high = float(content.min()), float(content.max())
    if low > -INFINITE and high < INFINITE:
        return low, high
    finite = content[np.abs(content) < INFINITE]
    return (float(finite.min()), float(finite.max())) if finite.size else (np.inf, -np.inf)


def _with_width(low: float, high: float) -> tuple[float, float]:
    """Widen the range of a value that never changes, so that its scale is not zero."""
    if low < high:
        return low, high
    return (min(low, 0.0), max(high, 0.0)) if low else (0.0, 1.0)


def _narrowed(values: Values, ranges: Ranges, quantization: Quantization) -> Ranges:
    counts = {name: np.zeros(HISTOGRAM_BINS, np.int64) for name in ranges}
    for contents in values():
        for name in counts:
            counts[name] += np.histogram(contents[name], HISTOGRAM_BINS, ranges[name])[0]
    result: Ranges = {}
    for name, (low, high) in ranges.items():
        if quantization.calibration == "entropy":
            first, last = _closest_bins(counts[name], low, high)
        else:
            first, last = _percentile_bins(counts[name], quantization.percentile)
        edges = np.linspace(low, high, HISTOGRAM_BINS + 1)
        result[name] = float(edges[first]), float(edges[last + 1])
    return result


def _percentile_bins(counts: Array, percentile: float) -> tuple[int, int]:
    """Return the first and the last bin of the range."""
    tail = (1 - percentile / 100) / 2
    cumulative = counts.cumsum() / max(1, counts.sum())
    first = int(np.searchsorted(cumulative, tail, side="right"))
    last = int(np.searchsorted(cumulative, 1 - tail))
    return min(first, HISTOGRAM_BINS - 1), min(last, HISTOGRAM_BINS - 1)


def _closest_bins(counts: Array, low: float, high: float) -> tuple[int, int]:
    """Return the bins of the range ``-limit`` to ``limit`` with the smallest KL divergence."""
    counts = np.convolve(counts, np.ones(SMOOTHING_BINS), "same")
    edges = np.linspace(low, high, HISTOGRAM_BINS + 1)
    best, result = np.inf, (0, HISTOGRAM_BINS - 1)
    for share in np.geomspace(1.0, SMALLEST_SHARE, ENTROPY_STEPS):
        limit = share * max(abs(low), abs(high))
        first = int(np.searchsorted(edges, -limit, side="right")) - 1
        last = int(np.searchsorted(edges, limit))
        first, last = max(first, 0), min(last, HISTOGRAM_BINS)
        if last - first < LEVELS:
            break
        divergence = _divergence(counts, first, last)
        if divergence < best * (1 - 1e-9):
            best, result = divergence, (first, last - 1)
    return result


def _divergence(counts: Array, first: int, last: int) -> float:
    """Return KL(true || rounded) if bins outside ``first`` to ``last`` are clipped to the edges."""
    inside = counts[first:last]
    true = inside.astype(np.float64)
    true[0] += counts[:first].sum()
    true[-1] += counts[last:].sum()
    starts: Array = np.arange(LEVELS) * len(true) // LEVELS
    filled = np.maximum(np.add.reduceat((inside > 0).astype(np.float64), starts), 1.0)
    levels = np.add.reduceat(inside.astype(np.float64), starts) / filled
    rounded = np.repeat(levels, np.diff(starts, append=len(true))) * (inside > 0)
    p, q = true / true.sum(), (rounded + 1e-9) / (rounded + 1e-9).sum()
    return float((p[p > 0] * np.log(p[p > 0] / q[p > 0])).sum())
