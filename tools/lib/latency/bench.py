"""A published set of networks: which items each is a sum of, and what devices measured."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]
Index = NDArray[np.intp]


class Items(NamedTuple):
    """``N`` networks as sums of ``B`` items; an item is a block, or an operation of a cell."""

    name: str
    """What is assumed of the runtime; empty where there is nothing to assume."""
    counts: Floats
    """``[N, B]``: how often each item is in each network."""
    amounts: Floats
    """``[B, J]``: resources of the items."""
    coordinates: Floats
    """``[B, D]``: where the items are; neighbours have like deviations."""
    groups: Index
    """``[D]``: which length scale each coordinate has."""
    prior: float = 1.0
    """How probable the assumption is before anything was measured."""


class Bench(NamedTuple):
    """``N`` networks with their features and latencies."""

    name: str
    items: tuple[Items, ...]
    """Several where it is not known what the runtime executes: the measurements choose."""
    macs: Floats
    """``[N]``, in millions."""
    operations: Floats
    """``[N, O]``: counts of kinds of operation, for the ridge regression that is a baseline."""
    places: Floats
    """``[N, G]``: operation at each place, one-hot: an additive block table."""
    ms: dict[str, Floats]
    """Latency of every network, by the name of the device's column."""
    rows: Index
    """Networks that are evaluated; all others are left out by a rule of the data."""
