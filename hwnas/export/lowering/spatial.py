"""Operations on whole feature maps without weights: pools, joins, margins, other sizes."""

from __future__ import annotations

from typing import Any

import numpy as np
from torch import fx, nn

from hwnas.export.graph.nodes import Concat, Constant, Mean, Pad, Pool, Resize, Sides, WindowPool
from hwnas.export.graph.ops import find_op
from hwnas.export.lowering.lowering import Lowering

POOL_ARGUMENTS = {
    "max_pool2d": ("kernel_size", "stride", "padding", "dilation", "ceil_mode", "return_indices"),
    "avg_pool2d": (
        "kernel_size", "stride", "padding", "ceil_mode", "count_include_pad", "divisor_override",
    ),
}  # fmt: skip
PADS = {nn.ZeroPad2d: "constant", nn.ConstantPad2d: "constant", nn.ReflectionPad2d: "reflect"}


def window_pool(lowering: Lowering, node: fx.Node, part: Any) -> None:
    op = find_op(node, part) or ""
    names = POOL_ARGUMENTS[op]
    given = (
        lowering.arguments(node, *names)
        if part is None
        else {name: getattr(part, name) for name in names}
    )
    size = _pair(given["kernel_size"])
    stride = _pair(given.get("stride") or size)
    padding, largest = _pair(given.get("padding", 0)), op == "max_pool2d"
    if largest and _pair(given.get("dilation", 1)) != (1, 1):
        lowering.refuse(node, f"with dilation={given['dilation']} is not supported")
    if largest and given.get("return_indices"):
        lowering.refuse(node, "with return_indices=True is not supported")
    if not largest and given.get("divisor_override") is not None:
        divisor = given["divisor_override"]
        lowering.refuse(node, f"with divisor_override={divisor} is not supported")
    value = lowering.operand(node)
    sides, over = _sides(lowering.shape(value), lowering.shapes[node], size, stride, padding)
    counted = not largest and given.get("count_include_pad", True) and padding != (0, 0)
    if counted and over:
        lowering.refuse(node, "that counts its padding is not supported with ceil_mode=True here")
    lowering.emit(
        node,
        WindowPool,
        (value,),
        op="max" if largest else "mean",
        size=size,
        stride=stride,
        padding=sides,
        counts_padding=bool(counted),
    )


def adaptive_pool(lowering: Lowering, node: fx.Node, part: Any) -> None:
    """Windows of one size, or pixels repeated, where the sizes divide; else not supported."""
    value = lowering.operand(node)
    before, after = lowering.shape(value)[2:], lowering.shapes[node][2:]
    if after == (1, 1):
        lowering.emit(node, Pool, (value,))
    elif after == before:
        lowering.become(node, value)
    elif all(size % wanted == 0 for size, wanted in zip(before, after, strict=True)):
        size = (before[0] // after[0], before[1] // after[1])
        none = ((0, 0), (0, 0))
        lowering.emit(node, WindowPool, (value,), op="mean", size=size, stride=size, padding=none)
    elif all(wanted % size == 0 for size, wanted in zip(before, after, strict=True)):
        lowering.emit(node, Resize, (value,), nearest=True, align_corners=False)
    else:
        lowering.refuse(
            node, f"from {before} to {after} is not supported, only to (1, 1) or where one size "
            "divides the other",
        )  # fmt: skip


def mean(lowering: Lowering, node: fx.Node, part: Any) -> None:
    given = lowering.arguments(node, "dim", "keepdim")
    value, dims = lowering.operand(node), given.get("dim")
    rank = len(lowering.shape(value))
    dims = [dims] if isinstance(dims, int) else dims
    axes = tuple(sorted(dim % rank for dim in dims)) if isinstance(dims, list | tuple) else ()
    if rank == 4 and axes == (2, 3):
        lowering.emit(node, Pool, (value,))
    elif rank == 4 and axes and axes[0] > 0 and given.get("keepdim"):
        lowering.emit(node, Mean, (value,), axes=axes)
    else:
        lowering.refuse(
            node, f"over dim {dims} is not supported, only over (2, 3) of [N, C, H, W], or over "
            "others than the first with keepdim=True",
        )  # fmt: skip


def concat(lowering: Lowering, node: fx.Node, part: Any) -> None:
    values = node.args[0] if node.args else node.kwargs.get("tensors")
    dim = node.args[1] if len(node.args) > 1 else node.kwargs.get("dim", 0)
    rank = len(lowering.shapes[node])
    if not isinstance(values, list | tuple):
        lowering.refuse(node, f"of {values!r} is not supported, only of a list of tensors")
    if not isinstance(dim, int) or dim % rank == 0:
        lowering.refuse(node, f"along dim {dim} is not supported, only within an image, 1 to 3")
    inputs = tuple(lowering.value(node, given) for given in values)
    lowering.emit(node, Concat, inputs, axis=dim % rank)


def pad(lowering: Lowering, node: fx.Node, part: Any) -> None:
    if part is None:
        given = lowering.arguments(node, "pad", "mode", "value")
        amounts, mode, number = given["pad"], given.get("mode", "constant"), given.get("value")
    else:
        amounts, number = part.padding, getattr(part, "value", None)
        mode = next(mode for kind, mode in PADS.items() if isinstance(part, kind))
    value = lowering.operand(node)
    rank = len(lowering.shape(value))
    numbers = isinstance(amounts, list | tuple) and all(isinstance(one, int) for one in amounts)
    if not numbers or mode not in ("constant", "reflect") or min(amounts) < 0:
        lowering.refuse(node, f"of {amounts} with mode={mode!r} is not supported")
    pairs = [(amounts[at], amounts[at + 1]) for at in range(0, len(amounts), 2)][::-1]
    sides = ((0, 0),) * (rank - len(pairs)) + tuple(pairs)
    if sides[0] != (0, 0):
        lowering.refuse(node, "of the batch is not supported")
    filling = float(number or 0.0) if mode == "constant" else None
    lowering.emit(node, Pad, (value,), sides=sides, value=filling)


def resize(lowering: Lowering, node: fx.Node, part: Any) -> None:
    names = ("size", "scale_factor", "mode", "align_corners", "recompute_scale_factor")
    given = (
        lowering.arguments(node, *names)
        if part is None
        else {name: getattr(part, name) for name in names}
    )
    mode = given.get("mode", "nearest")
    value = lowering.operand(node)
    before, after = lowering.shape(value)[2:], lowering.shapes[node][2:]
    if mode not in ("nearest", "bilinear") or given.get("antialias"):
        lowering.refuse(node, f"with mode={mode!r} is not supported: 'nearest' or 'bilinear'")
    factors = given.get("scale_factor")
    if factors is not None and not given.get("recompute_scale_factor"):
        both = factors if isinstance(factors, tuple | list) else (factors, factors)
        for size, wanted, factor in zip(before, after, both, strict=True):
            if size * factor != wanted:
                lowering.refuse(
                    node, f"by {factor} from {size} to {wanted} pixels is not supported: give the "
                    "size, or recompute_scale_factor=True",
                )  # fmt: skip
    if after == before:
        lowering.become(node, value)
        return
    lowering.emit(
        node,
        Resize,
        (value,),
        nearest=mode == "nearest",
        align_corners=bool(given.get("align_corners")),
    )


def zeros(lowering: Lowering, node: fx.Node, part: Any) -> None:
    shape = lowering.shapes[node]
    lowering.emit(node, Constant, (), value=np.zeros(shape, np.float32))


def _sides(
    before: tuple[int, ...], after: tuple[int, ...], size: Any, stride: Any, padding: Any
) -> tuple[Sides, bool]:
    """Return what is added at each side, and whether ``ceil_mode`` made it more at the end."""
    ends: list[tuple[int, int]] = []
    over = False
    for axis in (0, 1):
        reach = (after[2 + axis] - 1) * stride[axis] + size[axis]
        missing = reach - before[2 + axis] - padding[axis]
        ends.append((padding[axis], max(padding[axis], missing)))
        over = over or missing > padding[axis]
    return (ends[0], ends[1]), over


def _pair(given: Any) -> tuple[int, int]:
    if isinstance(given, int):
        return (given, given)
    return tuple(given) if len(given) == 2 else (given[0], given[0])
