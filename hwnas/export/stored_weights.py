"""Weights in fewer than 32 bits, as files of ``fp16``, ``int8-weights`` and ``int8-dynamic`` store
them.

Int8 weights are symmetric, with a scale for each output channel (Krishnamoorthi, 2018,
arXiv:1806.08342, section 3.1): -127 to 127, where -127 or 127 is the largest of its channel.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np

from hwnas.export.graph.nodes import Array

SMALLEST = 64
"""Least number of elements of a weight for which an operator that widens it pays."""

LEVELS = 127
"""Levels on each side of 0."""

SAFE_LEVELS = 63
"""Levels on each side of 0 where processors without VNNI would saturate the sum of two products of
uint8 and int8.
"""


class Int8Weight(NamedTuple):
    """Levels in the shape of the weight, and the size of a level in each channel."""

    levels: np.ndarray[Any, np.dtype[np.int8]]
    scale: Array
    """``[channels]``"""


def fits_half(values: np.ndarray) -> bool:
    """Return whether a weight is stored with 16 bits: it is large, and no element overflows."""
    if not is_large(values):
        return False
    return bool(np.abs(values).max() <= np.finfo(np.float16).max)


def is_large(values: np.ndarray) -> bool:
    """Return whether a weight is worth storing in fewer bits."""
    return values.dtype == np.float32 and values.size >= SMALLEST


def int8_weight(values: Array, axis: int, levels: int = LEVELS) -> Int8Weight:
    """Round a weight to ``levels`` on each side of 0; ``axis`` is that of its output channels."""
    result = np.empty(values.shape, np.int8)
    channels, rounded = np.moveaxis(values, axis, 0), np.moveaxis(result, axis, 0)
    scales = np.ones(len(channels), np.float32)
    for place in range(len(channels)):  # one by one: the rounded floats are a copy
        scale = np.abs(channels[place]).max(initial=0.0) / np.float32(levels)
        if scale >= np.finfo(np.float32).tiny:
            scales[place] = scale
        rounded[place] = np.rint(channels[place] / scales[place])
    return Int8Weight(result, scales)


PROBE = 8
"""Number of elements that are compared before all elements are."""


class WeightOwners:
    """The node for which each weight is written: the first one that has an equal weight."""

    def __init__(self) -> None:
        self._written: dict[tuple[object, ...], list[tuple[str, np.ndarray]]] = {}

    def owner(self, name: str, values: np.ndarray, axis: int) -> str:
        """Return the first name that this was called with for equal values and axis."""
        if not is_large(values):
            return name
        probe = values.flat[:PROBE].tobytes()
        others = self._written.setdefault((axis, values.shape, probe), [])
        for other, written in others:
            if other == name or np.array_equal(written, values):
                return other
        others.append((name, values))
        return name
