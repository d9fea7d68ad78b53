"""Lowering of pools: windows, dilated windows, and adaptive pools to any size."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
import torch.nn.functional as F

from hwnas.export.graph.nodes import Node, Pad, Pool, Resize, Sides, WindowPool
from hwnas.export.graph.recording import Call, Shape
from hwnas.export.graph.weights import to_array
from hwnas.export.lowering.lowering import LARGEST, Lowering
from hwnas.export.lowering.steps import Steps

Pair = tuple[int, int]
NO_PADDING: Sides = ((0, 0), (0, 0))


def max_pool(lowering: Lowering, call: Call) -> None:
    value, after = _map(lowering, call)
    size, stride, padding = _window(call)
    dilation = _pair(call, "dilation")
    if len(call.results) > 1 and lowering.waiting[call.results[1]]:
        window = size, stride, padding, dilation
        lowering.give(call.results[1], _places(lowering, call, value, after, *window))
    reach = (dilation[0] * (size[0] - 1) + 1, dilation[1] * (size[1] - 1) + 1)
    sides, _ = _sides(lowering.shape(value), after, reach, stride, padding)
    before = lowering.nodes.get(value)
    if _never_wins(before) and dilation == (1, 1) and lowering.has_one_reader(value):
        pairs = zip(sides, before.sides[2:], strict=True)  # type: ignore[union-attr]
        sides = tuple((a + c, b + d) for (a, b), (c, d) in pairs)  # type: ignore[assignment]
        lowering.drop(value)
        value = before.inputs[0]  # type: ignore[union-attr]
    if dilation == (1, 1):
        _emit(lowering, call, value, after, op="max", size=size, stride=stride, padding=sides)
        return
    steps = Steps(lowering, call)
    value = steps.pad(value, ((0, 0), (0, 0), *sides), -LARGEST)
    for axis in (2, 3):
        place = axis - 2
        value = largest(
            steps, value, axis, after[axis], (size[place], stride[place], dilation[place])
        )
    steps.finish(steps.reshape(value, call.result.shape))


def _places(
    lowering: Lowering, call: Call, value: str, after: Shape, size: Pair, stride: Pair,
    padding: Pair, dilation: Pair,
) -> str:  # fmt: skip
    """Return the place of the maximum of each window in its map.

    The windows' pixels come one after the other along a new axis; the maximum is the first largest.
    """
    steps, before = Steps(lowering, call), lowering.shape(value)
    reach = tuple(gap * (n - 1) + 1 for gap, n in zip(dilation, size, strict=True))
    ends = [
        max(padding[n], (after[2 + n] - 1) * stride[n] + reach[n] - before[2 + n] - padding[n])
        for n in (0, 1)
    ]
    sides = ((0, 0), (0, 0), (padding[0], ends[0]), (padding[1], ends[1]))
    padded = steps.pad(value, sides, -LARGEST)
    pieces = []
    for row in range(size[0]):
        line = steps.slice(padded, 2, row * dilation[0], after[2], stride[0])
        for column in range(size[1]):
            piece = steps.slice(line, 3, column * dilation[1], after[3], stride[1])
            pieces.append(steps.reshape(piece, (*after, 1)))
    place = steps.arg_extreme("max", steps.concat(pieces, 4), 4)
    place = steps.reshape(place, after)
    row = steps.activation("floor", steps.arithmetic("div", place, float(size[1])))
    column = steps.arithmetic("sub", place, steps.arithmetic("mul", row, float(size[1])))
    rows, columns = np.ogrid[: after[2], : after[3]]
    start = (rows * stride[0] - padding[0]) * before[3] + columns * stride[1] - padding[1]
    row = steps.arithmetic("mul", row, float(dilation[0] * before[3]))
    column = steps.arithmetic("mul", column, float(dilation[1]))
    flat = steps.arithmetic("add", steps.arithmetic("add", row, column), start.astype(np.float32))
    return steps.reshape(flat, call.results[1].shape)


def avg_pool(lowering: Lowering, call: Call) -> None:
    """Lower a mean of windows; PyTorch never counts the pixels that ``ceil_mode`` adds."""
    value, after = _map(lowering, call)
    size, stride, padding = _window(call)
    sides, extended = _sides(lowering.shape(value), after, size, stride, padding)
    counts = bool(call.args["count_include_pad"]) and padding != (0, 0)
    steps, divisor = Steps(lowering, call), call.args.get("divisor_override")
    if counts and extended:
        rows, columns = ((amount, amount) for amount in padding)
        value = steps.pad(value, ((0, 0), (0, 0), rows, columns), 0.0)
        ends = [after - amount for (_, after), amount in zip(sides, padding, strict=True)]
        sides, counts = ((0, ends[0]), (0, ends[1])), False
    fields: dict[str, Any] = {"op": "mean", "size": size, "stride": stride, "padding": sides}
    if divisor is None:
        _emit(lowering, call, value, after, counts_padding=counts, **fields)
        return
    counted = bool(np.any(sides))
    means = lowering.step(
        call, "means", WindowPool, (value,), after, counts_padding=counted, **fields
    )
    scaled = steps.arithmetic("mul", means, size[0] * size[1] / divisor)
    steps.finish(steps.reshape(scaled, call.result.shape))


def adaptive_avg_pool(lowering: Lowering, call: Call) -> None:
    """Lower to windows of one size, or to repeated pixels, where the sizes divide.

    Else each output is a weighted sum of rows and of columns: two matrix products.
    """
    value, shape = _map(lowering, call)
    before, after = lowering.shape(value)[2:], shape[2:]
    if after == (1, 1):
        pooled = lowering.step(call, "pool", Pool, (value,), shape)
        lowering.finish(call, pooled)
    elif after == before:
        lowering.become(call, value)
    elif all(old % new == 0 for old, new in zip(before, after, strict=True)):
        size = (before[0] // after[0], before[1] // after[1])
        _emit(lowering, call, value, shape, op="mean", size=size, stride=size, padding=NO_PADDING)
    elif all(new % old == 0 for old, new in zip(before, after, strict=True)):
        resized = lowering.step(
            call, "repeat", Resize, (value,), shape, nearest=True, align_corners=False
        )
        lowering.finish(call, resized)
    else:
        weights = [_means(old, new) for old, new in zip(before, after, strict=True)]
        steps = Steps(lowering, call)
        result = weighted_sums(steps, value, *weights)
        steps.finish(steps.reshape(result, call.result.shape))


def adaptive_max_pool(lowering: Lowering, call: Call) -> None:
    """Lower to windows of one size where the sizes divide, else to the maximum of each piece."""
    if len(call.results) > 1 and lowering.waiting[call.results[1]]:
        lowering.refuse(call, "with return_indices=True is not supported")
    value, shape = _map(lowering, call)
    before, after = lowering.shape(value)[2:], shape[2:]
    if all(old % new == 0 for old, new in zip(before, after, strict=True)):
        size = (before[0] // after[0], before[1] // after[1])
        _emit(lowering, call, value, shape, op="max", size=size, stride=size, padding=NO_PADDING)
        return
    steps = Steps(lowering, call)
    for axis, new in enumerate(after, start=2):
        value = piecewise_largest(steps, value, axis, new)
    steps.finish(steps.reshape(value, call.result.shape))


def piecewise_largest(steps: Steps, value: str, axis: int, count: int) -> str:
    """Return the maximum of each of ``count`` pieces of an axis, as adaptive pools part it."""
    size, pieces = steps.shape(value)[axis], list[str]()
    for place in range(count):
        begin, end = place * size // count, -(-(place + 1) * size // count)
        piece = steps.slice(value, axis, begin, end - begin)
        pieces.append(steps.reduce("max", piece, (axis,)))
    return steps.concat(pieces, axis)


def weighted_sums(steps: Steps, value: str, rows: Any, columns: Any) -> str:
    """Return ``rows @ x @ columns.T`` of each map; a weight ``None`` leaves its axis."""
    if rows is not None:
        value = steps.matmul(rows[None, None], value)
    if columns is not None:
        value = steps.matmul(value, columns.T[None, None])
    return value


def _means(before: int, after: int) -> Any:
    """Return the weights ``[after, before]`` of PyTorch's adaptive mean along an axis."""
    if before == after:
        return None
    return to_array(F.adaptive_avg_pool1d(torch.eye(before)[None], after)[0].t())


def largest(steps: Steps, value: str, axis: int, count: int, window: tuple[int, int, int]) -> str:
    """Return the maximum of ``size`` elements, ``dilation`` apart, of each of ``count`` windows."""
    size, stride, dilation = window
    result = ""
    for place in range(size):
        piece = steps.slice(value, axis, place * dilation, count, stride)
        result = steps.arithmetic("maximum", result, piece) if result else piece
    return result


def _map(lowering: Lowering, call: Call) -> tuple[str, Shape]:
    """Return the operand and the result's shape as maps; a 1-D pool has a height of 1."""
    value, after = lowering.operand(call), call.result.shape
    shape = lowering.shape(value)
    one_dimensional = "1d" in call.op
    if len(shape) == 4 and not one_dimensional:
        return value, after
    if not one_dimensional or len(shape) != 3:
        lowering.refuse(call, f"of {list(shape)} is not supported, only of [N, C, H, W]")
    row = Steps(lowering, call).reshape(value, (*shape[:2], 1, shape[2]))
    return row, (*after[:2], 1, after[2])


def _emit(lowering: Lowering, call: Call, value: str, shape: Shape, **fields: Any) -> None:
    lowering.finish(call, lowering.step(call, "windows", WindowPool, (value,), shape, **fields))


def _never_wins(node: Node | None) -> bool:
    """Return whether a node pads height and width with the lowest number."""
    return isinstance(node, Pad) and node.value == -LARGEST and node.sides[:2] == ((0, 0), (0, 0))


def _window(call: Call) -> tuple[Pair, Pair, Pair]:
    size = _pair(call, "kernel_size")
    stride = _pair(call, "stride") if call.args["stride"] else size
    return size, stride, _pair(call, "padding", 0)


def _pair(call: Call, name: str, missing: int = 1) -> Pair:
    numbers = call.args.get(name, missing)
    numbers = [numbers] if isinstance(numbers, int) else list(numbers)
    if "1d" in call.op:
        return (0 if name == "padding" else 1), numbers[0]
    return numbers[0], numbers[-1]


def _sides(
    before: Shape, after: Shape, reach: Pair, stride: Pair, padding: Pair
) -> tuple[Sides, bool]:
    """Return the padding of each side, and whether ``ceil_mode`` extends it at the end."""
    ends: list[Pair] = []
    extended = False
    for axis in (0, 1):
        needed = (after[2 + axis] - 1) * stride[axis] + reach[axis]
        missing = needed - before[2 + axis] - padding[axis]
        ends.append((padding[axis], max(padding[axis], missing)))
        extended = extended or missing > padding[axis]
    return (ends[0], ends[1]), extended
