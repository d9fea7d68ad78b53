"""The order of axes in which a value is read."""

from __future__ import annotations

from typing import Any

from hwnas.export.graph.nodes import (
    Activation,
    Arithmetic,
    Concat,
    Conv,
    ConvTranspose,
    Gather,
    LayerNorm,
    Linear,
    MatMul,
    Node,
    Pad,
    Pool,
    Prelu,
    Resize,
    Select,
    Shuffle,
    Slice,
    Transpose,
    WindowPool,
)
from hwnas.export.layout.arrange import Arranger, Order

SPATIAL = (Conv, ConvTranspose, Pool, WindowPool, Resize, Shuffle, Prelu)
"""Nodes on feature maps: they take their operands in the format's own order."""
LAST_AXIS = (LayerNorm, Linear, MatMul)
"""Nodes that take the last axis, or the last two, as the innermost."""
ANY_ORDER = (Arithmetic, Select, Activation, Concat, Pad, Slice, Gather)
"""Nodes that accept any order and return the order of their operand."""


def wanted_order(arranger: Arranger, name: str) -> Order | None:
    """Return the order in which a value is read first, through nodes that take any order.

    None where only nodes read it that reshape or reduce it.
    """
    if name not in arranger.wanted:
        arranger.wanted[name] = None  # for values that a chain reaches again
        arranger.wanted[name] = _wanted(arranger, name)
    return arranger.wanted[name]


def _wanted(arranger: Arranger, name: str) -> Order | None:
    rank = len(arranger.shapes[name])
    for reader in arranger.readers.get(name, []):
        if isinstance(reader, SPATIAL):
            return arranger.maps
        if isinstance(reader, LAST_AXIS):
            return tuple(range(rank))
        order = _through(arranger, reader, rank)
        if order is not None:
            return order
    return arranger.native(rank) if name in arranger.outputs else None


def _through(arranger: Arranger, reader: Any, rank: int) -> Order | None:
    """Return the order in which a reader's result is read, as that of its operand."""
    if isinstance(reader, Transpose):
        order = wanted_order(arranger, reader.name)
        return None if order is None else tuple(reader.order[axis] for axis in order)
    return wanted_order(arranger, reader.name) if _keeps_axes(reader, rank) else None


def _keeps_axes(reader: Node, rank: int) -> bool:
    return isinstance(reader, ANY_ORDER) and len(reader.shape) == rank
