"""Lowering of operations on feature maps: pooling, concatenation, padding, resizing."""

from __future__ import annotations

from typing import Any

import numpy as np
from torch import fx, nn

from hwnas.export.graph.nodes import Concat, Constant, Mean, Pad, Pool, Resize, Sides, WindowPool
from hwnas.export.graph.ops import find_op
from hwnas.export.lowering.lowering import Lowering
from hwnas.nn.padding import SameMaxPool2d, same_sides

POOL_ARGUMENTS = {
    "max_pool2d": ("kernel_size", "stride", "padding", "dilation", "ceil_mode", "return_indices"),
    "avg_pool2d": (
        "kernel_size",
        "stride",
        "padding",
        "ceil_mode",
        "count_include_pad",
        "divisor_override",
    ),
}
PAD_MODES = {nn.ZeroPad2d: "constant", nn.ConstantPad2d: "constant", nn.ReflectionPad2d: "reflect"}


def window_pool(lowering: Lowering, node: fx.Node, part: Any) -> None:
    op = find_op(node, part) or ""
    names = POOL_ARGUMENTS[op]
    options = (
        lowering.options(node, *names)
        if part is None
        else {name: getattr(part, name) for name in names}
    )
    size = _pair(options["kernel_size"])
    stride = _pair(options.get("stride") or size)
    padding, is_max = _pair(options.get("padding", 0)), op == "max_pool2d"
    if is_max and _pair(options.get("dilation", 1)) != (1, 1):
        lowering.refuse(node, f"with dilation={options['dilation']} is not supported")
    if is_max and options.get("return_indices"):
        lowering.refuse(node, "with return_indices=True is not supported")
    if not is_max and options.get("divisor_override") is not None:
        divisor = options["divisor_override"]
        lowering.refuse(node, f"with divisor_override={divisor} is not supported")
    value = lowering.operand(node)
    sides, extended = _pool_padding(
        lowering.shape(value), lowering.shapes[node], size, stride, padding
    )
    if isinstance(part, SameMaxPool2d):
        sides = same_sides(lowering.shape(value), size[0], stride[0])
    counts_padding = not is_max and options.get("count_include_pad", True) and padding != (0, 0)
    if counts_padding and extended:
        lowering.refuse(
            node, "with count_include_pad=True and ceil_mode=True is not supported for this size"
        )
    lowering.emit(
        node,
        WindowPool,
        (value,),
        op="max" if is_max else "mean",
        size=size,
        stride=stride,
        padding=sides,
        counts_padding=bool(counts_padding),
    )


def adaptive_pool(lowering: Lowering, node: fx.Node, part: Any) -> None:
    """Lower to windows of one size, or to repeated pixels, where the sizes divide."""
    value = lowering.operand(node)
    before, after = lowering.shape(value)[2:], lowering.shapes[node][2:]
    if after == (1, 1):
        lowering.emit(node, Pool, (value,))
    elif after == before:
        lowering.become(node, value)
    elif all(old % new == 0 for old, new in zip(before, after, strict=True)):
        size = (before[0] // after[0], before[1] // after[1])
        padding = ((0, 0), (0, 0))
        lowering.emit(
            node, WindowPool, (value,), op="mean", size=size, stride=size, padding=padding
        )
    elif all(new % old == 0 for old, new in zip(before, after, strict=True)):
        lowering.emit(node, Resize, (value,), nearest=True, align_corners=False)
    else:
        lowering.refuse(
            node,
            f"from {before} to {after} is not supported, only to (1, 1) or where one size divides "
            "the other",
        )


def mean(lowering: Lowering, node: fx.Node, part: Any) -> None:
    options = lowering.options(node, "dim", "keepdim")
    value, dims = lowering.operand(node), options.get("dim")
    rank = len(lowering.shape(value))
    dims = [dims] if isinstance(dims, int) else dims
    axes = tuple(sorted(dim % rank for dim in dims)) if isinstance(dims, list | tuple) else ()
    if rank == 4 and axes == (2, 3):
        lowering.emit(node, Pool, (value,))
    elif rank == 4 and axes and axes[0] > 0 and options.get("keepdim"):
        lowering.emit(node, Mean, (value,), axes=axes)
    else:
        lowering.refuse(
            node,
            f"over dim {dims} is not supported, only over (2, 3) of [N, C, H, W], or with "
            "keepdim=True over any dims but the first",
        )


def concat(lowering: Lowering, node: fx.Node, part: Any) -> None:
    values = node.args[0] if node.args else node.kwargs.get("tensors")
    dim = node.args[1] if len(node.args) > 1 else node.kwargs.get("dim", 0)
    rank = len(lowering.shapes[node])
    if not isinstance(values, list | tuple):
        lowering.refuse(node, f"of {values!r} is not supported, only of a list of tensors")
    if not isinstance(dim, int) or dim % rank == 0:
        lowering.refuse(node, f"along dim {dim} is not supported, only along dims 1 to 3")
    inputs = tuple(lowering.value(node, argument) for argument in values)
    lowering.emit(node, Concat, inputs, axis=dim % rank)


def pad(lowering: Lowering, node: fx.Node, part: Any) -> None:
    if part is None:
        options = lowering.options(node, "pad", "mode", "value")
        amounts, mode, number = (
            options["pad"],
            options.get("mode", "constant"),
            options.get("value"),
        )
    else:
        amounts, number = part.padding, getattr(part, "value", None)
        mode = next(mode for kind, mode in PAD_MODES.items() if isinstance(part, kind))
    value = lowering.operand(node)
    rank = len(lowering.shape(value))
    constant = isinstance(amounts, list | tuple) and all(isinstance(n, int) for n in amounts)
    if not constant or mode not in ("constant", "reflect") or min(amounts) < 0:
        lowering.refuse(node, f"of {amounts} with mode={mode!r} is not supported")
    pairs = list(zip(amounts[::2], amounts[1::2], strict=True))[::-1]
    sides = ((0, 0),) * (rank - len(pairs)) + tuple(pairs)
    if sides[0] != (0, 0):
        lowering.refuse(node, "of the batch is not supported")
    fill = float(number or 0.0) if mode == "constant" else None
    lowering.emit(node, Pad, (value,), sides=sides, value=fill)


def resize(lowering: Lowering, node: fx.Node, part: Any) -> None:
    names = ("size", "scale_factor", "mode", "align_corners", "recompute_scale_factor")
    options = (
        lowering.options(node, *names)
        if part is None
        else {name: getattr(part, name) for name in names}
    )
    mode = options.get("mode", "nearest")
    value = lowering.operand(node)
    before, after = lowering.shape(value)[2:], lowering.shapes[node][2:]
    if mode not in ("nearest", "bilinear") or options.get("antialias"):
        lowering.refuse(node, f"with mode={mode!r} is not supported, only 'nearest' and 'bilinear'")
    factors = options.get("scale_factor")
    if factors is not None and not options.get("recompute_scale_factor"):
        pair = factors if isinstance(factors, tuple | list) else (factors, factors)
        for old, new, factor in zip(before, after, pair, strict=True):
            if old * factor != new:
                lowering.refuse(
                    node,
                    f"by {factor} from {old} to {new} pixels is not supported; pass the size, or "
                    "recompute_scale_factor=True",
                )
    if after == before:
        lowering.become(node, value)
        return
    lowering.emit(
        node,
        Resize,
        (value,),
        nearest=mode == "nearest",
        align_corners=bool(options.get("align_corners")),
    )


def zeros(lowering: Lowering, node: fx.Node, part: Any) -> None:
    shape = lowering.shapes[node]
    lowering.emit(node, Constant, (), value=np.zeros(shape, np.float32))


def _pool_padding(
    before: tuple[int, ...], after: tuple[int, ...], size: Any, stride: Any, padding: Any
) -> tuple[Sides, bool]:
    """Return the padding of each side, and whether ``ceil_mode`` extends it at the end."""
    ends: list[tuple[int, int]] = []
    extended = False
    for axis in (0, 1):
        reach = (after[2 + axis] - 1) * stride[axis] + size[axis]
        missing = reach - before[2 + axis] - padding[axis]
        ends.append((padding[axis], max(padding[axis], missing)))
        extended = extended or missing > padding[axis]
    return (ends[0], ends[1]), extended


def _pair(value: Any) -> tuple[int, int]:
    if isinstance(value, int):
        return (value, value)
    return tuple(value) if len(value) == 2 else (value[0], value[0])
