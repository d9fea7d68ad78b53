"""Operations on whole feature maps without weights: pools in windows, slices, joins, zeros."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from torch import fx, nn

from hwnas.export.nodes import Concat, Slice, WindowPool, Zeros

if TYPE_CHECKING:
    from hwnas.export.lowering import Lowering


def window_pool(lowering: Lowering, node: fx.Node, part: Any) -> None:
    size, stride, padding = map(_pair, (part.kernel_size, part.stride, part.padding))
    largest = isinstance(part, nn.MaxPool2d)
    if part.ceil_mode:
        lowering.refuse(node, "with ceil_mode=True is not supported")
    if largest and _pair(part.dilation) != (1, 1):
        lowering.refuse(node, f"with dilation={part.dilation} is not supported")
    if not largest and part.divisor_override is not None:
        lowering.refuse(node, f"with divisor_override={part.divisor_override} is not supported")
    if not largest and part.count_include_pad and padding != (0, 0):
        lowering.refuse(node, "that counts its padding is not supported: count_include_pad=False")
    lowering.emit(
        node,
        WindowPool,
        (lowering.operand(node),),
        op="max" if largest else "mean",
        size=size,
        stride=stride,
        padding=padding,
    )


def getitem(lowering: Lowering, node: fx.Node, part: Any) -> None:
    """``x[:, :, top:, left:]``"""
    index = node.args[1]
    parts = index if isinstance(index, tuple) else (index,)
    begins = [
        one.start or 0
        for one in parts
        if isinstance(one, slice) and one.stop is None and one.step in (None, 1)
    ]
    value = lowering.operand(node)
    fits = len(begins) == len(parts) and all(isinstance(at, int) and at >= 0 for at in begins)
    begins += [0] * (4 - len(begins))
    if len(lowering.shape(value)) != 4 or not fits or begins[:2] != [0, 0]:
        lowering.refuse(node, f"with {index!r} is not supported, only as x[:, :, top:, left:]")
    lowering.emit(node, Slice, (value,), begin=(begins[2], begins[3]))


def concat(lowering: Lowering, node: fx.Node, part: Any) -> None:
    values = node.args[0] if node.args else node.kwargs.get("tensors")
    dim = node.args[1] if len(node.args) > 1 else node.kwargs.get("dim", 0)
    if not isinstance(values, list | tuple):
        lowering.refuse(node, f"of {values!r} is not supported, only of a list of tensors")
    if dim not in (1, 1 - len(lowering.shapes[node])):
        lowering.refuse(node, f"along dim {dim} is not supported, only along the channels, 1")
    lowering.emit(node, Concat, tuple(lowering.value(node, given) for given in values))


def zeros(lowering: Lowering, node: fx.Node, part: Any) -> None:
    lowering.emit(node, Zeros, ())


def _pair(given: Any) -> tuple[int, int]:
    return (given, given) if isinstance(given, int) else tuple(given)
