"""Other shapes and orders of axes: mostly other views of a value, which cost nothing."""

from __future__ import annotations

from typing import Any

import msgspec
import torch
from torch import fx

from hwnas.export.graph.nodes import Pool, Reshape, Shuffle, Slice
from hwnas.export.graph.views import LAST, View
from hwnas.export.lowering.lowering import Lowering


def permute(lowering: Lowering, node: fx.Node, part: Any) -> None:
    dims = lowering.arguments(node, "dims").get("dims")
    order: Any = dims if isinstance(dims, list | tuple) else node.args[1:]
    _reordered(lowering, node, tuple(dim % len(order) for dim in order))


def transpose(lowering: Lowering, node: fx.Node, part: Any) -> None:
    given = lowering.arguments(node, "dim0", "dim1")
    order = list(range(len(lowering.shapes[node])))
    first, second = given["dim0"], given["dim1"]
    order[first], order[second] = order[second], order[first]
    _reordered(lowering, node, tuple(order))


def reshape(lowering: Lowering, node: fx.Node, part: Any) -> None:
    """The same elements in the same order, in the order of PyTorch."""
    if any(isinstance(given, torch.dtype) for given in node.args):
        lowering.refuse(node, "as another type is not supported")
    given, after = lowering.given(node), lowering.shapes[node]
    view = lowering.views.get(given)
    value = lowering.value(node, given, view)
    before = lowering.shape(value)
    if view is not None:
        _merged(lowering, node, value, view)
    elif after == before:
        lowering.become(node, value)
    elif after[:1] != before[:1]:
        lowering.refuse(node, f"from {before} to {after} is not supported: the batch must stay")
    elif len(after) == 5 and len(before) == 4 and after[3:] == before[2:]:
        lowering.become(node, value, View("in groups", after[1]))
    elif len(after) > 4:
        lowering.refuse(node, f"from {before} to {after} is not supported, only to 4 axes")
    else:
        _flattened(lowering, node, value)


def channel_shuffle(lowering: Lowering, node: fx.Node, part: Any) -> None:
    lowering.emit(node, Shuffle, (lowering.operand(node),), groups=part.groups)


def chunk(lowering: Lowering, node: fx.Node, part: Any) -> None:
    """What is cut is said here; each piece that is used becomes a slice."""
    given = lowering.arguments(node, "how", "dim")
    value = lowering.operand(node)
    dim = given.get("dim", 0) % len(lowering.shape(value))
    if dim == 0:
        lowering.refuse(node, "along dim 0 is not supported, only within an image")
    lowering.pieces[node] = value, dim


def getitem(lowering: Lowering, node: fx.Node, part: Any) -> None:
    """A piece of a chunk, a slice, one channel that gets its axis back, or new axes at the end."""
    source: Any = node.args[0]
    index = lowering.arguments(node, "index")["index"]
    if source in lowering.pieces:
        _piece(lowering, node, source, index)
        return
    parts: tuple[Any, ...] = index if isinstance(index, tuple) else (index,)
    value = lowering.operand(node)
    shape = lowering.shape(value)
    if len(shape) == 2 and parts == (slice(None), slice(None), None, None):
        _flattened(lowering, node, value)
        return
    if Ellipsis in parts and None not in parts:
        at = parts.index(Ellipsis)
        whole = (slice(None),) * (len(shape) - len(parts) + 1)
        parts = (*parts[:at], *whole, *parts[at + 1 :])
    one_channel = len(parts) == 2 and isinstance(parts[1], int) and len(shape) == 4
    if one_channel:
        channel = parts[1] % shape[1]
        parts = (parts[0], slice(channel, channel + 1))
    if not all(isinstance(one, slice) for one in parts) or len(parts) > len(shape):
        lowering.refuse(node, f"with {index!r} is not supported, only slices as x[:, :, 1:, ::2]")
    parts = (*parts, *(slice(None),) * (len(shape) - len(parts)))
    if not all(_whole_numbers(one) for one in parts) or parts[0] != slice(None):
        lowering.refuse(node, f"with {index!r} is not supported, only slices as x[:, :, 1:, ::2]")
    ranges = [range(*one.indices(size)) for one, size in zip(parts, shape, strict=True)]
    fields: dict[str, Any] = {
        "begin": tuple(one.start for one in ranges),
        "step": tuple(one.step for one in ranges),
    }
    if not one_channel:
        lowering.emit(node, Slice, (value,), **fields)
        return
    kept = lowering.step(node, "channel", Slice, (value,), (1, 1, *shape[2:]), **fields)
    lowering.users[kept] = []
    lowering.become(node, kept, View("without channel axis"))


def _piece(lowering: Lowering, node: fx.Node, source: fx.Node, index: Any) -> None:
    value, dim = lowering.pieces[source]
    sizes = [shape[dim] for shape in lowering.known.pieces[source]]
    begin = [0] * len(lowering.shape(value))
    begin[dim] = sum(sizes[: index % len(sizes)])
    step = (1,) * len(begin)
    lowering.emit(node, Slice, (value,), begin=tuple(begin), step=step)


def _reordered(lowering: Lowering, node: fx.Node, order: tuple[int, ...]) -> None:
    given = lowering.given(node)
    view = lowering.views.get(given)
    value = lowering.value(node, given, view)
    found = (None if view is None else view.kind, order)
    if order == tuple(range(len(order))):
        lowering.become(node, value, view)
    elif found == (None, (0, 2, 3, 1)):
        lowering.become(node, value, LAST)
    elif found == ("channels last", (0, 3, 1, 2)):
        lowering.become(node, value)
    elif view is not None and found == ("in groups", (0, 2, 1, 3, 4)):
        lowering.become(node, value, View("of swapped groups", view.groups))
    else:
        lowering.refuse(
            node, f"to the order {order} is not supported, only between channels first and last, "
            "and of groups of channels",
        )  # fmt: skip


def _merged(lowering: Lowering, node: fx.Node, value: str, view: View) -> None:
    before, after = lowering.shape(value), lowering.shapes[node]
    if view.kind == "of swapped groups" and after == before:
        lowering.emit(node, Shuffle, (value,), groups=view.groups)
    elif view.kind in ("without channel axis", "in groups") and after == before:
        lowering.become(node, value)
    else:
        lowering.refuse(node, f"of a tensor {view.kind} to {after} is not supported")


def _flattened(lowering: Lowering, node: fx.Node, value: str) -> None:
    """A pool gives the flat shape itself."""
    before, after = lowering.shape(value), lowering.shapes[node]
    pool = lowering.nodes.get(value)
    flat = before == (*after, 1, 1) and len(after) == 2
    if flat and isinstance(pool, Pool) and lowering.alone(value):
        lowering.nodes[value] = msgspec.structs.replace(pool, shape=after)
        lowering.become(node, value)
    else:
        lowering.emit(node, Reshape, (value,))


def _whole_numbers(one: slice) -> bool:
    given = [bound for bound in (one.start, one.stop, one.step) if bound is not None]
    return all(isinstance(bound, int) for bound in given) and (one.step or 1) > 0
