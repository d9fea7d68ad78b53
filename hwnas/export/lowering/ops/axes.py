"""Lowering of operations on axes: reshapes, permutations, expansions, casts."""

from __future__ import annotations

import torch

from hwnas.export.graph.nodes import Expand, Pool, Reshape, Shuffle, Transpose
from hwnas.export.graph.recording import Call, Value
from hwnas.export.lowering.lowering import Lowering
from hwnas.export.lowering.steps import Steps

SHUFFLE = (0, 2, 1, 3, 4)
"""Order that swaps the groups of ``[N, G, C / G, H, W]`` and the channels in them."""


def reshape(lowering: Lowering, call: Call) -> None:
    """Lower every call that keeps the order of elements: reshape, view, flatten, (un)squeeze."""
    if "dtype" in call.args:
        lowering.refuse(call, "to another dtype is not supported")
    value, after = lowering.operand(call), call.result.shape
    before, node = lowering.shape(value), lowering.nodes.get(value)
    flat = before == (*after, 1, 1) and len(after) == 2
    if flat and isinstance(node, Pool) and lowering.has_one_reader(value):
        lowering.replace(value, shape=after)
        lowering.give(call.result, value)
    elif (source := _shuffled(lowering, value, after)) is not None:
        groups = lowering.shape(lowering.nodes[value].inputs[0])[1]
        lowering.emit(call, Shuffle, (source,), groups=groups)
    else:
        lowering.become(call, _unreshaped(lowering, value, after))


def permute(lowering: Lowering, call: Call) -> None:
    rank = len(call.result.shape)
    _transpose(lowering, call, tuple(dim % rank for dim in call.args["dims"]))


def transpose(lowering: Lowering, call: Call) -> None:
    order = list(range(len(call.result.shape)))
    if call.op == "t":
        order = order[::-1]
    else:
        first, second = call.args["dim0"], call.args["dim1"]
        order[first], order[second] = order[second], order[first]
    _transpose(lowering, call, tuple(order))


def channel_shuffle(lowering: Lowering, call: Call) -> None:
    lowering.emit(call, Shuffle, (lowering.operand(call),), groups=call.args["groups"])


def pixel_shuffle(lowering: Lowering, call: Call) -> None:
    """Lower ``[N, C r r, H, W]`` to ``[N, C, H r, W r]``."""
    factor = call.args["upscale_factor"]
    value, steps = lowering.operand(call), Steps(lowering, call)
    *front, channels, height, width = lowering.shape(value)
    rows = (*front, channels // factor**2, factor, factor, height, width)
    split = steps.reshape(value, rows)
    order = _after(len(front), (0, 3, 1, 4, 2))
    steps.finish(steps.reshape(steps.transpose(split, order), call.result.shape))


def pixel_unshuffle(lowering: Lowering, call: Call) -> None:
    """Lower ``[N, C, H r, W r]`` to ``[N, C r r, H, W]``."""
    factor = call.args["downscale_factor"]
    value, steps = lowering.operand(call), Steps(lowering, call)
    *front, channels, height, width = lowering.shape(value)
    rows = (*front, channels, height // factor, factor, width // factor, factor)
    order = _after(len(front), (0, 2, 4, 1, 3))
    split = steps.transpose(steps.reshape(value, rows), order)
    steps.finish(steps.reshape(split, call.result.shape))


def expand(lowering: Lowering, call: Call) -> None:
    steps = Steps(lowering, call)
    value = steps.of_rank(lowering.operand(call), len(call.result.shape))
    if lowering.shape(value) == call.result.shape:
        lowering.become(call, value)
    else:
        lowering.emit(call, Expand, (value,))


def repeat(lowering: Lowering, call: Call) -> None:
    steps = Steps(lowering, call)
    value = steps.of_rank(lowering.operand(call), len(call.result.shape))
    for axis, count in enumerate(call.args["repeats"]):
        value = steps.concat([value] * count, axis)
    steps.finish(value)


def repeat_interleave(lowering: Lowering, call: Call) -> None:
    """Lower to a gather; without a dim the value is flattened."""
    value, times, steps = lowering.operand(call), call.args["repeats"], Steps(lowering, call)
    if isinstance(times, Value):
        lowering.refuse(call, "gives a number of elements that depends on the input")
    if (dim := call.args["dim"]) is None:
        value, dim = steps.reshape(value, (-1,)), 0
    axis = dim % len(lowering.shape(value))
    places = torch.arange(lowering.shape(value)[axis]).repeat_interleave(times)
    steps.finish(steps.gather(value, axis, tuple(places.tolist())))


def diagonal(lowering: Lowering, call: Call) -> None:
    """Lower to elements of two axes as one; the diagonal comes last."""
    value, steps, args = lowering.operand(call), Steps(lowering, call), call.args
    shape = lowering.shape(value)
    pair = args["dim1"] % len(shape), args["dim2"] % len(shape)
    order = (*(axis for axis in range(len(shape)) if axis not in pair), *pair)
    rows, columns = (shape[axis] for axis in pair)
    places = torch.arange(rows * columns).reshape(rows, columns).diagonal(args["offset"])
    flat = steps.reshape(steps.transpose(value, order), (*call.result.shape[:-1], -1))
    steps.finish(steps.gather(flat, len(shape) - 2, tuple(places.tolist())))


def identity(lowering: Lowering, call: Call) -> None:
    lowering.become(call, lowering.operand(call))


def dropout(lowering: Lowering, call: Call) -> None:
    if call.args["train"]:
        lowering.refuse(call, "is active in evaluation mode; pass training=self.training")
    lowering.become(call, lowering.operand(call, "input"))


def cast(lowering: Lowering, call: Call) -> None:
    """Lower a cast to float, or between integers, to nothing: every value is float32.

    A cast of floats to integers rounds towards zero, one to a mask is whether a value differs
    from 0.
    """
    source, target = next(iter(call.operands)), call.result.dtype
    name, steps = lowering.values[source], Steps(lowering, call)
    if target == torch.bool and source.dtype != torch.bool:
        steps.finish(steps.select("ne", name, 0.0, 1.0, 0.0))
        return
    if source.dtype.is_floating_point and not target.is_floating_point:
        steps.finish(steps.towards_zero(name))
        return
    lowering.become(call, name)


def _transpose(lowering: Lowering, call: Call, order: tuple[int, ...]) -> None:
    value = lowering.operand(call)
    if order == tuple(range(len(order))):
        lowering.become(call, value)
    else:
        lowering.emit(call, Transpose, (value,), order=order)


def _shuffled(lowering: Lowering, value: str, after: tuple[int, ...]) -> str | None:
    """Return the map that a reshape, a permutation and a reshape shuffle the channels of."""
    swapped = lowering.nodes.get(value)
    split = lowering.nodes.get(swapped.inputs[0]) if isinstance(swapped, Transpose) else None
    if isinstance(split, Reshape) and swapped.order == SHUFFLE:  # type: ignore[union-attr]
        source = split.inputs[0]
        if lowering.shape(source) == after and split.shape[3:] == after[2:] and len(after) == 4:
            return source
    return None


def _unreshaped(lowering: Lowering, value: str, after: tuple[int, ...]) -> str:
    """Return the value before a reshape: of two in a row the first has no effect."""
    node = lowering.nodes.get(value)
    if isinstance(node, Reshape) and lowering.shape(value) != after:
        return _unreshaped(lowering, node.inputs[0], after)
    return value


def _after(count: int, order: tuple[int, ...]) -> tuple[int, ...]:
    return (*range(count), *(count + axis for axis in order))
