"""Lowering of writes at indices: reads and writes share `places`.

Constant places are a gather of the value and what is written. At places that are computed, what is
written is added up; where it replaces a value, the sum is divided by the number of terms, so that
elements that are written several times to the same place, which must be equal, count once.
"""

from __future__ import annotations

from math import prod
from typing import Any

import numpy as np
import torch

from hwnas.export.graph.nodes import Constant
from hwnas.export.graph.recording import Call, Shape
from hwnas.export.lowering.lowering import Lowering
from hwnas.export.lowering.ops.indices.places import (
    flat_places,
    index_lists,
    indexed_places,
    inverse,
    is_value,
    rows_along,
)
from hwnas.export.lowering.steps import Steps

ADDING = ("scatter_add", "index_add")
MAX_MATRIX = 2**20
"""Elements of the largest matrix that adds up rows at constant places."""


def scatter(lowering: Lowering, call: Call) -> None:
    """Lower ``scatter`` and ``scatter_add``: an element for each index along an axis."""
    steps, args = Steps(lowering, call), call.args
    adds = _adds(lowering, call)
    shape, indices = call.result.shape, args["index"]
    dim = args["dim"] % max(len(shape), 1)
    value = lowering.name(call, args["self"])
    given = args.get("src", args.get("value"))
    if not shape or 0 in indices.shape:
        lowering.refuse(call, "of a single number, or of no elements, is not supported")
    updates = steps.of_rank(lowering.name(call, given), len(shape))
    for axis, size in enumerate(indices.shape):
        if prod(lowering.shape(updates)) > 1:
            updates = steps.slice(updates, axis, 0, size)
    whole = all(
        n == m for a, (n, m) in enumerate(zip(indices.shape, shape, strict=True)) if a != dim
    )
    if is_value(indices) and whole:
        rows, places = rows_along(steps, value, lowering.values[indices], dim)
        size = (*rows.batch, indices.shape[dim], rows.elements)
        written = _as_rows(steps, steps.transpose(updates, rows.order), size)
        result = _written(steps, rows.of(steps, value), places, written, adds)
        split = steps.reshape(result, rows.sizes[0] + rows.sizes[1] + rows.sizes[2])
        steps.finish(steps.transpose(split, inverse(rows.order)))
        return
    places = _flat(steps, value, dim, indices)
    flat = steps.reshape(value, (-1, 1))
    written = _as_rows(steps, updates, (prod(indices.shape), 1))
    result = _written(steps, flat, places, written, adds)
    steps.finish(steps.reshape(result, shape))


def index_put(lowering: Lowering, call: Call) -> None:
    """Lower a write at indices along some axes, or where a mask is true."""
    args, steps = call.args, Steps(lowering, call)
    value, mask = lowering.name(call, args["self"]), args["indices"][0]
    if is_value(mask) and mask.dtype == torch.bool and len(args["indices"]) == 1:
        _put_where(steps, value, mask)
        return
    lists = index_lists(lowering, call)
    places = indexed_places(steps, lists, lowering.shape(value))
    batches, counts, others = places.rows.sizes
    shape = batches + places.sizes + others
    result = tuple(shape[axis] for axis in places.order)
    updates = steps.of_rank(lowering.name(call, args["values"]), len(result))
    if prod(lowering.shape(updates)) > 1:
        updates = steps.transpose(steps.expand(updates, result), inverse(places.order))
    size = (*places.rows.batch, prod(places.sizes), prod(others))
    updates = _as_rows(steps, updates, size)
    rows = places.rows.of(steps, value)
    written = _written(steps, rows, places.flat, updates, bool(args["accumulate"]))
    split = steps.reshape(written, batches + counts + others)
    steps.finish(steps.transpose(split, inverse(places.rows.order)))


def index_add(lowering: Lowering, call: Call) -> None:
    """Lower ``index_add``, ``index_copy`` and ``index_fill``: slices at indices along an axis."""
    steps, args = Steps(lowering, call), call.args
    value = lowering.name(call, args["self"])
    shape = lowering.shape(value)
    axis = args["dim"] % max(len(shape), 1)
    places = indexed_places(steps, [(axis, args["index"])], shape)
    given = args["source"] if "source" in args else args["value"]
    updates = steps.of_rank(lowering.name(call, given), len(shape))
    if args.get("alpha", 1) != 1:
        updates = steps.arithmetic("mul", updates, args["alpha"])
    order = places.rows.order
    size = (places.sizes[0], places.rows.elements)
    updates = _as_rows(steps, steps.transpose(updates, order), size)
    rows = places.rows.of(steps, value)
    written = _written(steps, rows, places.flat, updates, call.op in ADDING)
    sizes = tuple(shape[n] for n in order)
    steps.finish(steps.transpose(steps.reshape(written, sizes), inverse(order)))


def _adds(lowering: Lowering, call: Call) -> bool:
    """Return whether what is written is added; other reductions are refused."""
    reduce = call.args.get("reduce")
    if reduce in (None, "add", "sum") and call.args.get("include_self", True):
        return call.op in ADDING or reduce is not None
    lowering.refuse(call, f"with reduce={reduce!r} is not supported, only sums with the value")


def _put_where(steps: Steps, value: str, mask: Any) -> None:
    """Write one number, or one for each element of the last axes, where a mask is true."""
    lowering, call = steps.lowering, steps.call
    given, shape = call.args["values"], lowering.shape(value)
    if len(given.shape) > len(shape) - len(mask.shape) or call.args["accumulate"]:
        lowering.refuse(
            call, "writes a number of elements that depends on the input; take torch.where"
        )
    rest = (1,) * (len(shape) - len(mask.shape))
    condition = steps.reshape(lowering.values[mask], (*mask.shape, *rest))
    steps.finish(steps.select("ne", condition, 0.0, lowering.name(call, given), value))


def _flat(steps: Steps, value: str, dim: int, indices: Any) -> Any:
    """Return the place of each index in the flattened value: a name ``[K]`` or an array."""
    if not is_value(indices):
        return np.array(flat_places(steps, value, dim, indices))
    shape: Shape = steps.shape(value)
    strides = [prod(shape[axis + 1 :]) for axis in range(len(shape))]
    grid = np.indices(tuple(indices.shape))
    start = sum(grid[axis] * stride for axis, stride in enumerate(strides) if axis != dim)
    places = steps.arithmetic("mul", steps.lowering.values[indices], float(strides[dim]))
    places = steps.arithmetic("add", places, np.asarray(start, np.float32))
    return steps.reshape(places, (-1,))


def _as_rows(steps: Steps, updates: str, size: Shape) -> str:
    """Return updates as ``[..., K, D]``; a single number stays one."""
    return steps.reshape(updates, size if prod(steps.shape(updates)) > 1 else (1,) * len(size))


def _written(steps: Steps, rows: str, places: Any, updates: str, adds: bool) -> str:
    """Return ``[..., R, D]`` with updates at places, a name ``[..., K]`` or an array ``[K]``.

    The updates are ``[..., K, D]``, or a single number.
    """
    shape = steps.shape(rows)
    *batch, count, elements = shape
    if isinstance(places, str):
        rows = _uniform(steps, rows)
        written = _written_at(steps, rows, places, updates, count, adds)
        return steps.expand(written, shape)
    updates = steps.expand(updates, (*batch, len(places), elements))
    axis = len(batch)
    if not adds:
        source = np.arange(count)
        source[places] = count + np.arange(len(places))
        return steps.gather(steps.concat([rows, updates], axis), axis, tuple(map(int, source)))
    if count * len(places) > MAX_MATRIX:
        named = steps.name(np.broadcast_to(places, (*batch, len(places))).astype(np.float32))
        return steps.arithmetic("add", rows, steps.scatter_add(updates, named, count))
    matrix = np.zeros((count, len(places)), np.float32)
    matrix[places, np.arange(len(places))] = 1
    return steps.arithmetic("add", rows, steps.matmul(matrix, updates))


def _written_at(steps: Steps, rows: str, places: str, updates: str, count: int, adds: bool) -> str:
    """Write at computed places."""
    ones = steps.reshape(
        steps.select("ge", places, 0.0, 1.0, places),  # of any batch
        (*steps.shape(places), 1),
    )
    terms = steps.scatter_add(ones, places, count)
    if prod(steps.shape(updates)) == 1:
        if adds:
            return steps.arithmetic("add", rows, steps.arithmetic("mul", terms, updates))
        return steps.select("gt", terms, 0.0, updates, rows)
    sums = steps.scatter_add(updates, places, count)
    if adds:
        return steps.arithmetic("add", rows, sums)
    mean = steps.arithmetic("div", sums, steps.arithmetic("maximum", terms, 1.0))
    return steps.select("gt", terms, 0.0, mean, rows)


def _uniform(steps: Steps, rows: str) -> str:
    """Return a constant whose elements are all the same as one number, which fits any batch."""
    node = steps.lowering.nodes.get(rows)
    if isinstance(node, Constant) and node.value.min() == node.value.max():
        return steps.name(node.value.reshape(-1)[:1].reshape((1,) * node.value.ndim))
    return rows
