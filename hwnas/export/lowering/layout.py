"""Lowering of reshapes, permutations and slices, mostly to views, which need no operator."""

from __future__ import annotations

from typing import Any

import msgspec
import torch
from torch import fx

from hwnas.export.graph.nodes import Pool, Reshape, Shuffle, Slice
from hwnas.export.graph.views import NHWC, Layout, View
from hwnas.export.lowering.lowering import Lowering


def permute(lowering: Lowering, node: fx.Node, part: Any) -> None:
    dims = lowering.options(node, "dims").get("dims")
    order: Any = dims if isinstance(dims, list | tuple) else node.args[1:]
    _permute(lowering, node, tuple(dim % len(order) for dim in order))


def transpose(lowering: Lowering, node: fx.Node, part: Any) -> None:
    options = lowering.options(node, "dim0", "dim1")
    order = list(range(len(lowering.shapes[node])))
    first, second = options["dim0"], options["dim1"]
    order[first], order[second] = order[second], order[first]
    _permute(lowering, node, tuple(order))


def reshape(lowering: Lowering, node: fx.Node, part: Any) -> None:
    """Lower every call that keeps the order of elements: reshape, view, flatten, (un)squeeze."""
    if any(isinstance(argument, torch.dtype) for argument in node.args):
        lowering.refuse(node, "to another dtype is not supported")
    argument, after = lowering.argument(node), lowering.shapes[node]
    view = lowering.views.get(argument)
    value = lowering.value(node, argument, view)
    before = lowering.shape(value)
    if view is not None:
        _reshape_view(lowering, node, value, view)
    elif after == before:
        lowering.become(node, value)
    elif after[:1] != before[:1]:
        lowering.refuse(node, f"from {before} to {after} is not supported: the batch must stay")
    elif len(after) == 5 and len(before) == 4 and after[3:] == before[2:]:
        lowering.become(node, value, View(Layout.NGCHW, after[1]))
    elif len(after) > 4:
        lowering.refuse(node, f"from {before} to {after} is not supported, only to 4 axes")
    else:
        _flatten(lowering, node, value)


def channel_shuffle(lowering: Lowering, node: fx.Node, part: Any) -> None:
    lowering.emit(node, Shuffle, (lowering.operand(node),), groups=part.groups)


def chunk(lowering: Lowering, node: fx.Node, part: Any) -> None:
    """Record what is split; each chunk that is used becomes a slice in `getitem`."""
    options = lowering.options(node, "sizes", "dim")
    value = lowering.operand(node)
    dim = options.get("dim", 0) % len(lowering.shape(value))
    if dim == 0:
        lowering.refuse(node, "along dim 0 (the batch) is not supported")
    lowering.pieces[node] = value, dim


def getitem(lowering: Lowering, node: fx.Node, part: Any) -> None:
    """Lower an index: a chunk, a slice, a single channel, or new axes at the end."""
    source: Any = node.args[0]
    index = lowering.options(node, "index")["index"]
    if source in lowering.pieces:
        _chunk(lowering, node, source, index)
        return
    parts: tuple[Any, ...] = index if isinstance(index, tuple) else (index,)
    value = lowering.operand(node)
    shape = lowering.shape(value)
    if len(shape) == 2 and parts == (slice(None), slice(None), None, None):
        _flatten(lowering, node, value)
        return
    if Ellipsis in parts and None not in parts:
        position = parts.index(Ellipsis)
        whole = (slice(None),) * (len(shape) - len(parts) + 1)
        parts = (*parts[:position], *whole, *parts[position + 1 :])
    single_channel = len(parts) == 2 and isinstance(parts[1], int) and len(shape) == 4
    if single_channel:
        channel = parts[1] % shape[1]
        parts = (parts[0], slice(channel, channel + 1))
    slices = all(map(_is_plain_slice, parts)) and parts[:1] in ((), (slice(None),))
    if not slices or len(parts) > len(shape):
        lowering.refuse(
            node, f"with {index!r} is not supported, only slices such as x[:, :, 1:, ::2]"
        )
    parts = (*parts, *(slice(None),) * (len(shape) - len(parts)))
    ranges = [range(*part.indices(size)) for part, size in zip(parts, shape, strict=True)]
    fields: dict[str, Any] = {
        "begin": tuple(indices.start for indices in ranges),
        "step": tuple(indices.step for indices in ranges),
    }
    if not single_channel:
        lowering.emit(node, Slice, (value,), **fields)
        return
    channel = lowering.step(node, "channel", Slice, (value,), (1, 1, *shape[2:]), **fields)
    lowering.users[channel] = []
    lowering.become(node, channel, View(Layout.NHW))


def _chunk(lowering: Lowering, node: fx.Node, source: fx.Node, index: Any) -> None:
    value, dim = lowering.pieces[source]
    sizes = [shape[dim] for shape in lowering.known.pieces[source]]
    begin = [0] * len(lowering.shape(value))
    begin[dim] = sum(sizes[: index % len(sizes)])
    step = (1,) * len(begin)
    lowering.emit(node, Slice, (value,), begin=tuple(begin), step=step)


def _permute(lowering: Lowering, node: fx.Node, order: tuple[int, ...]) -> None:
    argument = lowering.argument(node)
    view = lowering.views.get(argument)
    value = lowering.value(node, argument, view)
    permutation = (None if view is None else view.layout, order)
    if order == tuple(range(len(order))):
        lowering.become(node, value, view)
    elif permutation == (None, (0, 2, 3, 1)):
        lowering.become(node, value, NHWC)
    elif permutation == (Layout.NHWC, (0, 3, 1, 2)):
        lowering.become(node, value)
    elif view is not None and permutation == (Layout.NGCHW, (0, 2, 1, 3, 4)):
        lowering.become(node, value, View(Layout.NCGHW, view.groups))
    else:
        lowering.refuse(
            node,
            f"to the order {order} is not supported, only between NCHW and NHWC, and between "
            "groups of channels",
        )


def _reshape_view(lowering: Lowering, node: fx.Node, value: str, view: View) -> None:
    """Lower a reshape that merges the axes of a view to those of its value."""
    before, after = lowering.shape(value), lowering.shapes[node]
    if view.layout is Layout.NCGHW and after == before:
        lowering.emit(node, Shuffle, (value,), groups=view.groups)
    elif view.layout in (Layout.NHW, Layout.NGCHW) and after == before:
        lowering.become(node, value)
    else:
        lowering.refuse(
            node, f"of a tensor with layout {view.layout.value} to {after} is not supported"
        )


def _flatten(lowering: Lowering, node: fx.Node, value: str) -> None:
    """Emit a reshape, or let the pool before give the flat shape itself."""
    before, after = lowering.shape(value), lowering.shapes[node]
    pool = lowering.nodes.get(value)
    flat = before == (*after, 1, 1) and len(after) == 2
    if flat and isinstance(pool, Pool) and lowering.has_one_user(value):
        lowering.nodes[value] = msgspec.structs.replace(pool, shape=after)
        lowering.become(node, value)
    else:
        lowering.emit(node, Reshape, (value,))


def _is_plain_slice(part: Any) -> bool:
    """Return whether an index is a slice with constant bounds and a positive step."""
    if not isinstance(part, slice):
        return False
    bounds = [bound for bound in (part.start, part.stop, part.step) if bound is not None]
    return all(isinstance(bound, int) for bound in bounds) and (part.step or 1) > 0
