"""Lowering of pieces of tensors: slices, splits, windows, and their concatenation."""

from __future__ import annotations

from typing import Any

from hwnas.export.graph.nodes import Concat
from hwnas.export.graph.recording import Call
from hwnas.export.lowering.lowering import Lowering
from hwnas.export.lowering.steps import Steps


def slice_(lowering: Lowering, call: Call) -> None:
    value, steps = lowering.operand(call), Steps(lowering, call)
    axis = call.args["dim"] % len(lowering.shape(value))
    size, args = lowering.shape(value)[axis], call.args
    chosen = range(*slice(args["start"], args["end"], args["step"]).indices(size))
    if not len(chosen):
        lowering.refuse(call, f"of no elements, [{chosen.start}:{chosen.stop}], is not supported")
    steps.finish(steps.slice(value, axis, chosen.start, len(chosen), chosen.step))


def select(lowering: Lowering, call: Call) -> None:
    value, steps = lowering.operand(call), Steps(lowering, call)
    axis = call.args["dim"] % len(lowering.shape(value))
    place = call.args["index"] % lowering.shape(value)[axis]
    piece = steps.slice(value, axis, place, 1)
    steps.finish(steps.reshape(piece, call.result.shape))


def split(lowering: Lowering, call: Call) -> None:
    """Lower a split, chunk or unbind; each piece that is used becomes a slice."""
    value, steps = lowering.operand(call), Steps(lowering, call)
    axis, begin = call.args["dim"] % len(lowering.shape(value)), 0
    for result in call.results:
        size = 1 if call.op == "unbind" else result.shape[axis]
        if lowering.waiting[result]:
            piece = steps.slice(value, axis, begin, size)
            lowering.give(result, steps.reshape(piece, result.shape))
        begin += size


def narrow(lowering: Lowering, call: Call) -> None:
    value, args = lowering.operand(call), call.args
    steps, axis = Steps(lowering, call), args["dim"] % len(call.result.shape)
    size = lowering.shape(value)[axis]
    steps.finish(steps.slice(value, axis, args["start"] % size, args["length"]))


def concat(lowering: Lowering, call: Call) -> None:
    tensors = [tensor for tensor in call.args["tensors"] if 0 not in tensor.shape]
    names = tuple(lowering.name(call, tensor) for tensor in tensors)
    axis = call.args["dim"] % len(call.result.shape)
    if len(names) == 1:
        lowering.become(call, names[0])
    else:
        lowering.emit(call, Concat, names, axis=axis)


def stack(lowering: Lowering, call: Call) -> None:
    steps, axis = Steps(lowering, call), call.args["dim"] % len(call.result.shape)
    shape = list(call.result.shape)
    shape[axis] = 1
    names = [lowering.name(call, tensor) for tensor in call.args["tensors"]]
    steps.finish(steps.concat([steps.reshape(name, tuple(shape)) for name in names], axis))


def flip(lowering: Lowering, call: Call) -> None:
    value, steps = lowering.operand(call), Steps(lowering, call)
    for dim in call.args["dims"]:
        size = lowering.shape(value)[dim]
        value = steps.gather(value, dim % len(lowering.shape(value)), tuple(range(size))[::-1])
    steps.finish(value)


def roll(lowering: Lowering, call: Call) -> None:
    """Lower to a concatenation of the end and the beginning of each axis, or of all."""
    value, steps = lowering.operand(call), Steps(lowering, call)
    dims: Any = call.args["dims"]
    if not dims:
        value, dims = steps.reshape(value, (-1,)), [0]
    for shift, dim in zip(call.args["shifts"], dims, strict=True):
        axis = dim % len(lowering.shape(value))
        size = lowering.shape(value)[axis]
        if cut := -shift % size:
            ends = steps.slice(value, axis, cut, size - cut), steps.slice(value, axis, 0, cut)
            value = steps.concat(list(ends), axis)
    steps.finish(steps.reshape(value, call.result.shape))


def unfold(lowering: Lowering, call: Call) -> None:
    """Lower `Tensor.unfold`: windows along an axis, as a new last axis."""
    value, steps, args = lowering.operand(call), Steps(lowering, call), call.args
    shape = lowering.shape(value)
    axis = args["dimension"] % len(shape)
    starts = range(0, shape[axis] - args["size"] + 1, args["step"])
    places = [start + place for start in starts for place in range(args["size"])]
    gathered = steps.gather(value, axis, tuple(places))
    split = (*shape[:axis], len(starts), args["size"], *shape[axis + 1 :])
    order = (*(n for n in range(len(split)) if n != axis + 1), axis + 1)
    steps.finish(steps.transpose(steps.reshape(gathered, split), order))
