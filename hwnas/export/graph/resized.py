"""The graph of a network at another height and width, which shows what depends on the size."""

from __future__ import annotations

from contextlib import suppress
from typing import NamedTuple

import msgspec
from torch import nn

from hwnas.errors import ExportError, UsageError
from hwnas.export.graph.interface import Interface, ModuleInput
from hwnas.export.graph.nodes import Graph
from hwnas.export.graph.trace import trace

Offset = tuple[int, int]
"""Rows and columns more than the stated size."""

OFFSETS: tuple[Offset, ...] = ((37, 53), (2, 6), (8, 24), (32, 96))
"""Offsets that are tried in order: a network may need an even size, or multiples of 8 or 32. They
are added to three times the height and five times the width, so that even the smallest maps change
their size."""


class Resized(NamedTuple):
    """The graph at another size of its images."""

    graph: Graph
    offset: Offset
    """Rows and columns that can be added to a size of the network."""


def trace_resized(module: nn.Module, interface: Interface, *, any_batch: bool = False) -> Resized:
    """Return the graph at the first of `OFFSETS` at which ``module`` computes anything.

    Raises `ExportError`, with the layer, if it takes images of one size only.
    """
    height, width = size_of(interface)

    def traced(offset: Offset) -> Resized:
        other = at(interface, (2 * height + offset[0], 4 * width + offset[1]))
        return Resized(trace(module, other, any_batch=any_batch), offset)

    *offsets, last = OFFSETS
    for offset in offsets:
        with suppress(ExportError):
            return traced(offset)
    try:
        return traced(last)
    except ExportError as error:
        raise ExportError(f"the size of this network cannot be dynamic: {error}") from error


def at(interface: Interface, offset: Offset) -> Interface:
    """Return how a module is called with larger images; other inputs keep their shapes."""
    height, width = size_of(interface)
    rows, columns = offset
    return interface._replace(
        inputs=tuple(
            _larger(each, rows, columns) if each.shape[2:] == (height, width) else each
            for each in interface.inputs
        )
    )


def size_of(interface: Interface) -> tuple[int, int]:
    """Return height and width of the first input that is a map. Raises `UsageError` without one."""
    for each in interface.inputs:
        if len(each.shape) == 4:
            return each.shape[2], each.shape[3]
    shapes = ", ".join(f"{each.name} {list(each.shape)}" for each in interface.inputs)
    raise UsageError(f"a dynamic height and width needs an input [C, H, W]; the inputs: {shapes}")


def _larger(each: ModuleInput, rows: int, columns: int) -> ModuleInput:
    *first, height, width = each.shape
    return msgspec.structs.replace(each, shape=(*first, height + rows, width + columns))
