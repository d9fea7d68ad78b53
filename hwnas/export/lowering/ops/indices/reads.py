"""Lowering of elements at indices: tables, gathers and advanced indexing.

What is read at constant indices is a gather at constant places. Computed indices read rows of the
value, see `hwnas.export.lowering.ops.indices.places`.
"""

from __future__ import annotations

import numpy as np
from torch import Tensor

from hwnas.export.graph.nodes import Cast, Lookup
from hwnas.export.graph.recording import Call, Value
from hwnas.export.graph.weights import to_array
from hwnas.export.lowering.lowering import Lowering
from hwnas.export.lowering.ops.indices.places import (
    cut,
    flat_places,
    index_lists,
    indexed_places,
    inverse,
    is_value,
    rows_along,
)
from hwnas.export.lowering.steps import Steps

INTEGERS = ("int32", "int64")


def index(lowering: Lowering, call: Call) -> None:
    """Lower an index by lists along some axes, as in ``x[:, [2, 0, 3]]`` or ``x[places]``.

    A constant that is indexed by values along its first axis is a table.
    """
    lists = index_lists(lowering, call)
    source = call.args["self"]
    if [axis for axis, _ in lists] == [0] and not is_value(source) and is_value(lists[0][1]):
        look_up(lowering, call, source, lists[0][1])
        return
    steps, value = Steps(lowering, call), lowering.name(call, source)
    shape, axes = lowering.shape(value), [axis for axis, _ in lists]
    first, end = axes[0], axes[0] + len(axes)
    places = indexed_places(steps, lists, shape)
    if isinstance(places.flat, str):
        taken = steps.take(places.rows.of(steps, value), places.flat)
        steps.finish(places.back(steps, taken))
        return
    if axes != list(range(first, end)):
        taken = steps.gather(places.rows.of(steps, value), 0, tuple(map(int, places.flat)))
        steps.finish(places.back(steps, taken))
        return
    merged = steps.reshape(value, (*shape[:first], -1, *shape[end:]))
    taken = steps.gather(merged, first, tuple(map(int, places.flat)))
    steps.finish(steps.reshape(taken, call.result.shape))


def gather(lowering: Lowering, call: Call) -> None:
    """Lower an element for each index along an axis; whole rows where indices are repeated."""
    steps, dim, indices = Steps(lowering, call), call.args["dim"], call.args["index"]
    value = lowering.name(call, call.args["self"])
    dim %= max(len(indices.shape), 1)
    if not indices.shape:
        steps.finish(steps.reshape(value, ()))
        return
    if not is_value(indices):
        taken = steps.gather(
            steps.reshape(value, (-1,)), 0, flat_places(steps, value, dim, indices)
        )
        steps.finish(steps.reshape(taken, call.result.shape))
        return
    name = lowering.values[indices]
    value = cut(steps, value, indices.shape, dim)
    rows, places = rows_along(steps, value, name, dim)
    taken = steps.take(rows.of(steps, value), places)
    sizes = rows.sizes[0] + (indices.shape[dim],) + rows.sizes[2]
    steps.finish(steps.transpose(steps.reshape(taken, sizes), inverse(rows.order)))


def index_select(lowering: Lowering, call: Call) -> None:
    value, steps = lowering.name(call, call.args["self"]), Steps(lowering, call)
    shape, indices = lowering.shape(value), call.args["index"]
    axis = call.args["dim"] % max(len(shape), 1)
    if not is_value(indices):
        places = (int(place) % shape[axis] for place in indices.reshape(-1))
        steps.finish(steps.gather(value, axis, tuple(places)))
        return
    places = indexed_places(steps, [(axis, indices)], shape)
    steps.finish(places.back(steps, steps.take(places.rows.of(steps, value), places.flat)))


def embedding(lowering: Lowering, call: Call) -> None:
    table = lowering.constant(call, "weight")
    assert table is not None
    look_up(lowering, call, table, call.args["indices"])


def embedding_bag(lowering: Lowering, call: Call) -> None:
    """Lower sums, means or maxima of rows of a table, of bags of one size."""
    steps, args = Steps(lowering, call), call.args
    table, offsets = lowering.constant(call, "weight"), lowering.constant(call, "offsets")
    assert table is not None and offsets is not None
    indices: Value = args["indices"]
    bags = call.result.shape[0]
    size = indices.shape[0] // bags
    regular = offsets[:bags].tolist() == list(range(0, bags * size, size))
    if not regular or bags * size != indices.shape[0] or args["padding_idx"] >= 0:
        lowering.refuse(call, "is only supported for bags of one size, without a padding index")
    rows = steps.reshape(table_rows(steps, table, indices), (bags, size, table.shape[1]))
    weights = args["per_sample_weights"]
    if weights is not None:
        factors = steps.reshape(lowering.name(call, weights), (bags, size, 1))
        rows = steps.arithmetic("mul", rows, factors)
    op = ("sum", "mean", "max")[args["mode"]]
    steps.finish(steps.reshape(steps.reduce(op, rows, (1,)), call.result.shape))


def look_up(lowering: Lowering, call: Call, table: Tensor, indices: Value) -> None:
    """Lower to the rows of a constant table at the values ``indices``."""
    steps = Steps(lowering, call)
    steps.finish(steps.reshape(table_rows(steps, table, indices), call.result.shape))


def table_rows(steps: Steps, table: Tensor, indices: Value) -> str:
    """Return the rows of a constant table at indices, of an input where they are one.

    Indices of four axes become two, so that they are no map, which a format may store otherwise.
    """
    lowering, call = steps.lowering, steps.call
    name = lowering.values[indices]
    node, rank = lowering.nodes.get(name), len(indices.shape)
    integers = isinstance(node, Cast) and lowering.inputs[node.inputs[0]].dtype in INTEGERS
    if isinstance(node, Cast) and integers and rank != 4:
        (name,) = node.inputs
    else:
        name = steps.reshape(name, (indices.shape[0], -1)) if rank == 4 else name
        fields = {"dtype": "int32"}
        name = lowering.step(call, "indices", Cast, (name,), lowering.shape(name), **fields)
    rows = to_array(table)
    shape = (*lowering.shape(name), int(np.prod(rows.shape[1:])))
    weight = rows.reshape(len(rows), -1)
    return lowering.step(call, "rows", Lookup, (name,), shape, weight=weight)
