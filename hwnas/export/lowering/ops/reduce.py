"""Lowering of reductions: means, sums, extremes, variances and norms over any axes."""

from __future__ import annotations

from math import prod
from typing import Any

from hwnas.export.graph.nodes import Pool
from hwnas.export.graph.recording import Call
from hwnas.export.lowering.lowering import Lowering
from hwnas.export.lowering.ops.arithmetic import arithmetic
from hwnas.export.lowering.steps import Steps, count


def mean(lowering: Lowering, call: Call) -> None:
    """Lower a mean; over height and width of a map it is a pool."""
    value, axes = lowering.operand(call), _axes(lowering, call)
    if len(lowering.shape(value)) == 4 and axes == (2, 3):
        lowering.emit(call, Pool, (value,))
    else:
        _reduce(lowering, call, "mean", value, axes)


def total(lowering: Lowering, call: Call) -> None:
    _reduce(lowering, call, "sum", lowering.operand(call), _axes(lowering, call))


def product(lowering: Lowering, call: Call) -> None:
    _reduce(lowering, call, "prod", lowering.operand(call), _axes(lowering, call))


def extreme(lowering: Lowering, call: Call) -> None:
    """Lower ``amax``, ``amin``, and ``max`` and ``min`` with or without a dim."""
    if "other" in call.args:
        arithmetic(lowering, call)
        return
    op = "max" if "max" in call.op else "min"
    value, axes, steps = lowering.operand(call), _axes(lowering, call), Steps(lowering, call)
    if len(call.results) > 1 and lowering.waiting[call.results[1]]:
        [axis] = axes or (0,)
        indices = steps.arg_extreme(op, value, axis)
        lowering.give(call.results[1], steps.reshape(indices, call.results[1].shape))
    _reduce(lowering, call, op, value, axes)


def arg_extreme(lowering: Lowering, call: Call) -> None:
    """Lower ``argmax`` and ``argmin``, of an axis or of all elements."""
    value, steps, axis = lowering.operand(call), Steps(lowering, call), call.args.get("dim")
    shape = lowering.shape(value)
    if axis is None:
        value, axis = steps.reshape(value, (prod(shape),)), 0
    axis %= max(len(shape), 1)
    indices = steps.arg_extreme(call.op.removeprefix("arg"), value, axis)
    steps.finish(steps.reshape(indices, call.result.shape))


def variance(lowering: Lowering, call: Call) -> None:
    """Lower ``var`` and ``std``, and with their means ``var_mean`` and ``std_mean``."""
    value, axes, steps = lowering.operand(call), _axes(lowering, call), Steps(lowering, call)
    elements = count(lowering.shape(value), axes)
    correction = call.args.get("correction", 1 if call.args.get("unbiased", True) else 0)
    correction = 1 if correction is None else correction
    means = steps.reduce("mean", value, axes)
    centred = steps.arithmetic("sub", value, means)
    spread = steps.reduce("mean", steps.arithmetic("mul", centred, centred), axes)
    if correction:
        spread = steps.arithmetic("mul", spread, elements / (elements - correction))
    if "std" in call.op:
        spread = steps.activation("sqrt", spread)
    if len(call.results) > 1:
        lowering.give(call.results[1], steps.reshape(means, call.results[1].shape))
    steps.finish(steps.reshape(spread, call.result.shape))


def norm(lowering: Lowering, call: Call) -> None:
    """Lower vector norms of any order."""
    value, axes, steps = lowering.operand(call), _axes(lowering, call), Steps(lowering, call)
    order = float(2 if (power := call.args.get("ord", call.args.get("p"))) is None else power)
    steps.finish(steps.reshape(vector_norm(steps, value, axes, order), call.result.shape))


def vector_norm(steps: Steps, value: str, axes: tuple[int, ...], order: float) -> str:
    """Return the norms over some axes, each of which stays with size 1."""
    if order == 2:
        squares = steps.reduce("sum", steps.arithmetic("mul", value, value), axes)
        return steps.activation("sqrt", squares)
    sizes = steps.activation("abs", value)
    if order in (float("inf"), float("-inf")):
        return steps.reduce("max" if order > 0 else "min", sizes, axes)
    if order == 0:
        return steps.reduce("sum", steps.select("ne", value, 0.0, 1.0, 0.0), axes)
    if order == 1:
        return steps.reduce("sum", sizes, axes)
    powers = steps.arithmetic("pow", sizes, order)
    return steps.arithmetic("pow", steps.reduce("sum", powers, axes), 1 / order)


def logsumexp(lowering: Lowering, call: Call) -> None:
    """Lower to ``max + log(sum(exp(x - max)))``."""
    value, axes, steps = lowering.operand(call), _axes(lowering, call), Steps(lowering, call)
    largest = steps.reduce("max", value, axes)
    powers = steps.activation("exp", steps.arithmetic("sub", value, largest))
    log = steps.activation("log", steps.reduce("sum", powers, axes))
    steps.finish(steps.reshape(steps.arithmetic("add", largest, log), call.result.shape))


def _reduce(lowering: Lowering, call: Call, op: str, value: str, axes: tuple[int, ...]) -> None:
    steps = Steps(lowering, call)
    steps.finish(steps.reshape(steps.reduce(op, value, axes), call.result.shape))


def _axes(lowering: Lowering, call: Call) -> tuple[int, ...]:
    """Return the axes of a reduction, all of them where none are given."""
    rank = len(lowering.shape(lowering.operand(call)))
    dims: Any = call.args.get("dim")
    if dims is None or dims == []:
        return tuple(range(rank))
    dims = [dims] if isinstance(dims, int) else dims
    return tuple(sorted(dim % rank for dim in dims))
