"""The elements of a value that indices refer to: rows of the value, at places.

The axes that are indexed become one axis, whose elements are the rows; the axes that are not
indexed come behind it and make up a row. An index is then a list of rows, constant or computed.
"""

from __future__ import annotations

from math import prod
from typing import Any, NamedTuple, TypeGuard

import numpy as np
import torch
from torch import Tensor

from hwnas.export.graph.nodes import ArgExtreme, Concat, Expand, Reshape, Slice, TopK, Transpose
from hwnas.export.graph.recording import Call, Shape, Value
from hwnas.export.lowering.lowering import Lowering
from hwnas.export.lowering.steps import Steps

EXACT = 2**24
"""Largest index that float32 holds exactly."""


class Rows(NamedTuple):
    """Axes of a value as batch, rows and elements of a row: ``[..., R, D]``."""

    order: tuple[int, ...]
    """Axes of the batch, those of the rows, those of the elements."""
    sizes: tuple[Shape, Shape, Shape]

    @property
    def batch(self) -> Shape:
        """The first axis, which may be that of a dynamic batch, and one for all others."""
        sizes = self.sizes[0]
        alone = 1 if sizes and self.order[0] == 0 else 0
        rest = prod(sizes[alone:])
        return (*sizes[:alone], *(() if rest == 1 else (rest,)))

    @property
    def elements(self) -> int:
        return prod(self.sizes[2])

    def of(self, steps: Steps, value: str) -> str:
        """Return a value as ``[..., R, D]``."""
        shape = (*self.batch, prod(self.sizes[1]), self.elements)
        return steps.reshape(steps.transpose(value, self.order), shape)


class Places(NamedTuple):
    """The rows of a value that an advanced index reads, and their position in its result."""

    rows: Rows
    flat: Any
    """Row of each place: a name ``[..., K]``, or an array ``[K]`` if it is constant."""
    sizes: Shape
    """Sizes of the indices without the batch."""
    before: int
    """Number of the axes, among those that are read whole, that come before the indices."""

    @property
    def order(self) -> tuple[int, ...]:
        """Return where the result has the axes batch, indices, elements."""
        batch, _, elements = map(len, self.rows.sizes)
        first = range(batch + len(self.sizes), batch + len(self.sizes) + elements)
        return (
            *range(batch),
            *first[: self.before],
            *range(batch, batch + len(self.sizes)),
            *first[self.before :],
        )

    def back(self, steps: Steps, taken: str) -> str:
        """Return the rows that were read, ``[..., K, D]``, with the axes of the result."""
        split = steps.reshape(taken, self.rows.sizes[0] + self.sizes + self.rows.sizes[2])
        return steps.transpose(split, self.order)


def indexed_places(steps: Steps, lists: list[tuple[int, Any]], shape: Shape) -> Places:
    """Return the places that indices along some axes of a value of ``shape`` read.

    An index by all elements of the first axis, as in ``x[torch.arange(len(x)), places]``, leaves
    the axis alone.
    """
    sizes = np.broadcast_shapes(*(item.shape for _, item in lists))
    axes = [axis for axis, _ in lists]
    neighbours = axes == list(range(axes[0], axes[0] + len(axes)))
    computed = any(is_value(item) for _, item in lists)
    batch = int(computed and axes[0] == 0 and _is_batch(lists[0][1], sizes, shape[0]))
    indexed = axes[batch:]
    rest = [axis for axis in range(batch, len(shape)) if axis not in indexed]
    order = (*range(batch), *indexed, *rest)
    groups = (range(batch), indexed, rest)
    batches, counts, others = (tuple(shape[axis] for axis in group) for group in groups)
    rows = Rows(order, (batches, counts, others))
    flat = _row_of_each(steps, [item for _, item in lists[batch:]], counts)
    if isinstance(flat, str):
        flat = steps.reshape(steps.expand(flat, sizes), (*rows.batch, prod(sizes[batch:])))
    else:
        flat = np.broadcast_to(flat, sizes).reshape(-1)
    before = axes[0] if neighbours and not batch else 0
    return Places(rows, flat, tuple(sizes[batch:]), before)


def index_lists(lowering: Lowering, call: Call) -> list[tuple[int, Any]]:
    """Return the axis and the indices of each list; a constant mask stands for several axes."""
    lists: list[tuple[int, Any]] = []
    axis = 0
    for item in call.args["indices"]:
        if item is not None and item.dtype in (torch.bool, torch.uint8):
            if is_value(item):
                lowering.refuse(
                    call,
                    "takes a mask of values, so that the number of elements depends on the input; "
                    "multiply by the mask or take torch.where",
                )
            lists += enumerate(item.nonzero().unbind(1), axis)
            axis += item.dim()
        else:
            lists += [] if item is None else [(axis, item)]
            axis += 1
    return lists


def rows_along(steps: Steps, value: str, indices: str, dim: int) -> tuple[Rows, str]:
    """Return the rows along ``dim`` of a value, and which are read, as a node ``[..., K]``.

    Axes along which the indices are repeated belong to the rows.
    """
    source, repeated = unrepeated(steps, indices, dim)
    shape = steps.shape(value)
    batch = [axis for axis in range(len(shape)) if axis != dim and axis not in repeated]
    order = (*batch, dim, *repeated)
    groups = (batch, (dim,), repeated)
    rows = Rows(order, tuple(tuple(shape[axis] for axis in group) for group in groups))  # type: ignore[arg-type]
    places = steps.reshape(steps.transpose(source, order), (*rows.batch, steps.shape(source)[dim]))
    return rows, places


def unrepeated(steps: Steps, indices: str, dim: int) -> tuple[str, tuple[int, ...]]:
    """Return indices with size 1 along the axes of which all elements are the same."""
    node = steps.lowering.nodes.get(indices)
    rank = len(steps.shape(indices))
    if isinstance(node, Expand):
        (source,) = node.inputs
        before = steps.shape(source)
        axes = [n for n in range(rank) if before[n] == 1 < node.shape[n]]
    elif isinstance(node, Concat) and len({*node.inputs}) == 1:
        source, axes = node.inputs[0], [node.axis]
    else:
        return indices, ()
    if dim in axes or any(steps.shape(source)[axis] != 1 for axis in axes):
        return indices, ()
    source, more = unrepeated(steps, source, dim)
    return source, tuple(sorted((*axes, *more)))


def cut(steps: Steps, value: str, sizes: Shape, dim: int) -> str:
    """Return the beginning of each axis but ``dim``, of the size that the indices have."""
    for axis, size in enumerate(sizes):
        if axis != dim:
            value = steps.slice(value, axis, 0, size)
    return value


def flat_places(steps: Steps, value: str, dim: int, indices: Tensor) -> tuple[int, ...]:
    """Return the place of each element along ``dim`` in the flattened value."""
    grid = np.indices(tuple(indices.shape))
    grid[dim] = indices.numpy() % steps.shape(value)[dim]
    return tuple(map(int, np.ravel_multi_index(list(grid), steps.shape(value)).reshape(-1)))


def is_value(argument: Any) -> TypeGuard[Value]:
    return isinstance(argument, Value)


def inverse(order: tuple[int, ...]) -> tuple[int, ...]:
    """Return the order that puts the axes back."""
    return tuple(map(int, np.argsort(order)))


def _row_of_each(steps: Steps, items: list[Any], counts: Shape) -> Any:
    """Return the row of each place in the axes that are indexed, merged to one."""
    if prod(counts) > EXACT:
        steps.lowering.refuse(steps.call, f"of {list(counts)} elements is not supported")
    total: Any = None
    for place, (item, size) in enumerate(zip(items, counts, strict=True)):
        stride = prod(counts[place + 1 :])
        if is_value(item):
            term: Any = _from_the_start(steps, steps.lowering.values[item], size)
            term = term if stride == 1 else steps.arithmetic("mul", term, float(stride))
        else:
            term = item.numpy() % size * stride
        if total is None or not (isinstance(total, str) or isinstance(term, str)):
            total = term if total is None else total + term
        else:
            total = steps.arithmetic("add", *(
                operand if isinstance(operand, str) else operand.astype(np.float32)
                for operand in (total, term)
            ))  # fmt: skip
    return total


def _from_the_start(steps: Steps, indices: str, size: int) -> str:
    """Return indices that count from the start, where they may count from the end."""
    node = steps.lowering.nodes.get(indices)
    while isinstance(node, Reshape | Transpose | Expand | Slice):
        node = steps.lowering.nodes.get(node.inputs[0])
    if isinstance(node, ArgExtreme | TopK):
        return indices
    return steps.select("lt", indices, 0.0, steps.arithmetic("add", indices, float(size)), indices)


def _is_batch(item: Any, sizes: Shape, size: int) -> bool:
    """Return whether an index reads each element of the first axis, along its own first axis."""
    if is_value(item) or not sizes or sizes[0] != size:
        return False
    shape = (1,) * (len(sizes) - item.dim()) + tuple(item.shape)
    alone = shape[0] == size and all(n == 1 for n in shape[1:])
    return alone and item.reshape(-1).tolist() == list(range(size))
