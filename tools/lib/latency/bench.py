"""A published set of networks as sums of items, with their latencies on devices."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]
Index = NDArray[np.intp]


class Items(NamedTuple):
    """``N`` networks as sums of ``B`` items; an item is a block, or an operation of a cell."""

    name: str
    """The assumption about the runtime; empty if there is none."""
    counts: Floats
    """``[N, B]``: how often each item is in each network."""
    amounts: Floats
    """``[B, J]``: resources of the items."""
    coordinates: Floats
    """``[B, D]``: coordinates of the items; neighbours have similar deviations."""
    groups: Index
    """``[D]``: index of the length scale of each coordinate."""
    prior: float = 1.0
    """Prior probability of the assumption."""


class Bench(NamedTuple):
    """``N`` networks with their features and latencies."""

    name: str
    items: tuple[Items, ...]
    """Several if it is unknown which operations the runtime executes: measurements decide."""
    macs: Floats
    """``[N]``, in millions."""
    operations: Floats
    """``[N, O]``: counts of kinds of operation, for the baseline of ridge regression."""
    places: Floats
    """``[N, G]``: operation at each position, one-hot, for an additive block table."""
    ms: dict[str, Floats]
    """Latency of every network, by the name of the device's column."""
    rows: Index
    """Evaluated networks; the data exclude all others by a rule."""
