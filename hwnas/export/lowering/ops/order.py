"""Lowering of order statistics along an axis, and of running sums and extremes."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np
import torch

from hwnas.export.graph.recording import Call
from hwnas.export.lowering.lowering import LARGEST, Lowering
from hwnas.export.lowering.steps import Steps


def top(lowering: Lowering, call: Call) -> None:
    """Lower ``topk``, and ``sort`` and ``argsort`` as all elements in their order.

    The smallest elements are the largest of the negated values.
    """
    value, steps = lowering.operand(call), Steps(lowering, call)
    rank = len(lowering.shape(value))
    if not rank:
        lowering.refuse(call, "of a single number is not supported")
    axis = call.args.get("dim", -1) % rank
    largest = call.args.get("largest", True) if call.op == "topk" else call.args.get("descending")
    count = call.args["k"] if call.op == "topk" else lowering.shape(value)[axis]
    names = _ordered(steps, value, axis, count, bool(largest))
    for result, name in zip(call.results, names[-len(call.results) :], strict=True):
        lowering.give(result, name)


def median(lowering: Lowering, call: Call) -> None:
    """Lower ``median``, the lower of two in the middle, and ``kthvalue``, with their indices."""
    value, steps = lowering.operand(call), Steps(lowering, call)
    dim = call.args.get("dim")
    if dim is None:
        value, dim = steps.reshape(value, (-1,)), 0
    axis = dim % max(len(lowering.shape(value)), 1)
    place = call.args.get("k", (lowering.shape(value)[axis] + 1) // 2) - 1
    for result, name in zip(
        call.results, _ordered(steps, value, axis, place + 1, False), strict=False
    ):
        if lowering.waiting[result]:
            lowering.give(result, steps.reshape(steps.slice(name, axis, place, 1), result.shape))


def quantile(lowering: Lowering, call: Call) -> None:
    """Lower quantiles of a constant share: elements of the sorted axis, or between two."""
    value, steps, shares = lowering.operand(call), Steps(lowering, call), call.args["q"]
    shares = torch.as_tensor(shares, dtype=torch.float64)
    dim, mode = call.args["dim"], call.args["interpolation"]
    if dim is None:
        value, dim = steps.reshape(value, (-1,)), 0
    axis = dim % max(len(lowering.shape(value)), 1)
    size = lowering.shape(value)[axis]
    places = shares.reshape(-1).numpy() * (size - 1)
    ordered = _ordered(steps, value, axis, size, False)[0]
    below, above = np.floor(places), np.ceil(places)
    weights = {
        "linear": places - below,
        "lower": 0 * below,
        "higher": above - below,
        "nearest": np.round(places) - below,
        "midpoint": (above - below) / 2,
    }[mode]
    shape = [1] * len(lowering.shape(value))
    shape[axis] = len(places)
    first, second = (steps.gather(ordered, axis, _whole(ends)) for ends in (below, above))
    way = steps.arithmetic("sub", second, first)
    part = steps.arithmetic("mul", way, weights.reshape(shape).astype(np.float32))
    values = steps.arithmetic("add", first, part)
    rank = len(shape)
    if shares.dim():  # the shares come first
        order = (axis, *(place for place in range(rank) if place != axis))
        values = steps.transpose(values, order)
    steps.finish(steps.reshape(values, call.result.shape))


def searchsorted(lowering: Lowering, call: Call) -> None:
    """Lower to the number of elements of an ordered row below each value, or up to it."""
    steps, args = Steps(lowering, call), call.args
    if args["sorter"] is not None:
        lowering.refuse(call, "with a sorter is not supported")
    ordered, value = (lowering.name(call, args[name]) for name in ("sorted_sequence", "self"))
    shape = lowering.shape(value)
    *rows, size = lowering.shape(ordered)
    column = steps.reshape(value, (*shape, 1))
    front = rows or (1,) * (len(shape) - 1)
    row = steps.reshape(ordered, (*front, 1, size) if shape else (size,))
    up_to = args["right"] or args["side"] == "right"
    below = steps.select("le" if up_to else "lt", row, column, 1.0, 0.0)
    counts = steps.reduce("sum", below, (len(shape),))
    steps.finish(steps.reshape(counts, call.result.shape))


def cumsum(lowering: Lowering, call: Call) -> None:
    """Lower to a product with a triangular matrix, along the axis as last one."""
    value, steps = lowering.operand(call), Steps(lowering, call)
    rank = len(lowering.shape(value))
    axis, order = call.args["dim"] % rank, list(range(rank))
    order[axis], order[-1] = order[-1], order[axis]
    size = lowering.shape(value)[axis]
    moved = steps.of_rank(steps.transpose(value, tuple(order)), max(rank, 2))
    sums = steps.matmul(moved, np.triu(np.ones((size, size), np.float32)))
    sums = steps.reshape(sums, tuple(lowering.shape(value)[n] for n in order))
    steps.finish(steps.transpose(sums, tuple(order)))


def running_extreme(lowering: Lowering, call: Call) -> None:
    """Lower ``cummax`` and ``cummin``, without their indices."""
    if lowering.waiting[call.results[1]]:
        lowering.refuse(call, "is supported without its indices only")
    op, edge = ("maximum", -LARGEST) if "max" in call.op else ("minimum", LARGEST)
    _running(lowering, call, edge, lambda steps, x, y: steps.arithmetic(op, x, y))


def logcumsumexp(lowering: Lowering, call: Call) -> None:
    _running(lowering, call, -LARGEST / 4, _log_of_sum)


def _log_of_sum(steps: Steps, x: str, y: str) -> str:
    """Return ``log(exp(x) + exp(y))`` as ``max + log(1 + exp(-|x - y|))``."""
    apart = steps.activation("abs", steps.arithmetic("sub", x, y))
    powers = steps.activation("exp", steps.activation("neg", apart))
    more = steps.activation("log", steps.arithmetic("add", powers, 1.0))
    return steps.arithmetic("add", steps.arithmetic("maximum", x, y), more)


def _running(
    lowering: Lowering, call: Call, edge: float, join: Callable[[Steps, str, str], str]
) -> None:
    """Join each element with those before it, in steps that double how far they reach."""
    value, steps = lowering.operand(call), Steps(lowering, call)
    rank = len(lowering.shape(value))
    axis = call.args["dim"] % max(rank, 1)
    size = lowering.shape(value)[axis] if rank else 1
    for power in range(math.ceil(math.log2(size))):
        reach = 2**power
        sides = tuple((reach, 0) if place == axis else (0, 0) for place in range(rank))
        before = steps.pad(steps.slice(value, axis, 0, size - reach), sides, edge)
        value = join(steps, value, before)
    lowering.give(call.result, steps.reshape(value, call.result.shape))


def _ordered(steps: Steps, value: str, axis: int, count: int, largest: bool) -> tuple[str, str]:
    """Return the first elements of an axis in their order, and their indices."""
    rank = len(steps.shape(value))
    order = list(range(rank))
    order[axis], order[-1] = order[-1], order[axis]
    moved = steps.transpose(value, tuple(order))
    if not largest:
        moved = steps.activation("neg", moved)
    values, indices = steps.top(moved, count)
    if not largest:
        values = steps.activation("neg", values)
    return steps.transpose(values, tuple(order)), steps.transpose(indices, tuple(order))


def _whole(places: Any) -> tuple[int, ...]:
    return tuple(int(place) for place in places)
