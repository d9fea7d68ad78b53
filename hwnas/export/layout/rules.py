"""The arrangement of each kind of node: the orders of its operands and of its result."""

from __future__ import annotations

from collections.abc import Callable
from math import prod
from typing import Any

import numpy as np

from hwnas.export.graph.nodes import (
    Activation,
    ArgExtreme,
    Arithmetic,
    Cast,
    Concat,
    Constant,
    Conv,
    Expand,
    Gather,
    Graph,
    GridSample,
    LayerNorm,
    Linear,
    Lookup,
    MatMul,
    Node,
    Pad,
    Reduce,
    Reshape,
    ScatterAdd,
    Select,
    Slice,
    Take,
    TopK,
    Transpose,
)
from hwnas.export.layout.arrange import NCHW, NHWC, Arranged, Arranger, Order, permuted
from hwnas.export.layout.readers import SPATIAL, wanted_order
from hwnas.export.layout.reshape import reshape

Rule = Callable[[Arranger, Any], None]


def arrange(graph: Graph, maps: Order) -> Arranged:
    """Return ``graph`` with feature maps stored as ``maps``, `NCHW` or `NHWC`."""
    arranger = Arranger(graph, maps)
    for node in graph.nodes:
        RULES[type(node)](arranger, node)
    return arranger.finish()


def spatial(arranger: Arranger, node: Node) -> None:
    """Operators on feature maps take and return the format's own order."""
    inputs = tuple(arranger.tensor(name, arranger.maps) for name in node.inputs)
    arranger.add(node, inputs, arranger.native(len(node.shape)))


def elementwise(arranger: Arranger, node: Node) -> None:
    """All operands are taken in the order of the largest."""
    order = _common_order(arranger, node)
    arranger.add(node, tuple(arranger.tensor(name, order) for name in node.inputs), order)


def activation(arranger: Arranger, node: Activation) -> None:
    (name,) = node.inputs
    order = arranger.order(name)
    if node.op in ("softmax", "log_softmax"):
        order = _with_last(order, node.axis) if arranger.maps == NHWC else order
        axis = order.index(node.axis)
        arranger.add(node, (arranger.tensor(name, order),), order, axis=axis)
        return
    if name in arranger.flattened:
        arranger.flattened[node.name] = arranger.flattened[name]
    arranger.add(node, (arranger.tensor(name, order),), order)


def top(arranger: Arranger, node: TopK) -> None:
    """The axis that is sorted comes last, as TFLite takes it."""
    (name,) = node.inputs
    order = _with_last(arranger.order(name), len(node.shape) - 1)
    arranger.add(node, (arranger.tensor(name, order),), order)


def grid_sample(arranger: Arranger, node: GridSample) -> None:
    """The points are not a map: their axes stay."""
    images, points = node.inputs
    plain = tuple(range(len(node.shape)))
    inputs = arranger.tensor(images, arranger.maps), arranger.tensor(points, plain)
    arranger.add(node, inputs, arranger.maps)


def concat(arranger: Arranger, node: Concat) -> None:
    order = _common_order(arranger, node)
    inputs = tuple(arranger.tensor(name, order) for name in node.inputs)
    arranger.add(node, inputs, order, axis=order.index(node.axis))


def same_order(arranger: Arranger, node: Any) -> None:
    """Settings of each axis follow the order in which the operand is stored."""
    (name,) = node.inputs
    order = arranger.order(name)
    fields: dict[str, Any] = {
        field: permuted(getattr(node, field), order)
        for field in ("begin", "step", "sides")
        if hasattr(node, field)
    }
    if isinstance(node, Reduce):
        fields["axes"] = tuple(sorted(order.index(axis) for axis in node.axes))
    if isinstance(node, Gather | ArgExtreme):
        fields["axis"] = order.index(node.axis)
    arranger.add(node, (arranger.tensor(name, order),), order, **fields)


def cast(arranger: Arranger, node: Cast) -> None:
    """Integers are not moved: they are inputs or outputs, in the format's own order."""
    order = arranger.native(len(node.shape))
    arranger.add(node, (arranger.tensor(node.inputs[0], order),), order)


def constant(arranger: Arranger, node: Constant) -> None:
    arranger.constants[node.name] = node.value


def transpose(arranger: Arranger, node: Transpose) -> None:
    """Nothing moves: the same tensor holds the result under another order."""
    (name,) = node.inputs
    if name in arranger.constants:
        arranger.constants[node.name] = arranger.constants[name].transpose(node.order)
        return
    tensor, stored = arranger.stored[name]
    arranger.hold(node.name, tensor, tuple(node.order.index(axis) for axis in stored))


def layer_norm(arranger: Arranger, node: LayerNorm) -> None:
    """The normalised axis comes last; channels of a map go back to where the format has them.

    There the linear layers after it are 1x1 convolutions, which are faster than matrix products.
    """
    (name,) = node.inputs
    stored, rank = arranger.order(name), len(node.shape)
    order = _last_inside(stored)
    arranger.add(node, (arranger.tensor(name, order),), order)
    if rank == 4 and stored[arranger.maps.index(1)] == rank - 1:
        arranger.hold(node.name, arranger.tensor(node.name, stored), stored)


def linear(arranger: Arranger, node: Linear) -> None:
    """A linear layer on a map's channels is a 1x1 convolution."""
    (name,) = node.inputs
    rank, order = len(node.shape), arranger.order(name)
    weight = node.weight
    if name in arranger.flattened:
        shape, stored = arranger.flattened[name]
        axes = (0, *(axis + 1 for axis in stored))
        weight = weight.reshape(len(weight), *shape).transpose(axes).reshape(weight.shape)
    channels = arranger.maps.index(1)
    if rank == 4 and order[channels] == rank - 1:
        _pointwise(arranger, node, order)
        return
    order = _last_inside(order)
    arranger.add(node, (arranger.tensor(name, order),), order, weight=np.ascontiguousarray(weight))


def lookup(arranger: Arranger, node: Lookup) -> None:
    """The rows of the table come last, so that all axes are in their own order."""
    (name,) = node.inputs
    plain = tuple(range(len(node.shape)))
    arranger.add(node, (arranger.tensor(name, plain[:-1]),), plain)


def rows(arranger: Arranger, node: Take | ScatterAdd) -> None:
    """Batch, rows and elements are no map: their axes stay."""
    plain = tuple(range(len(node.shape)))
    inputs = (arranger.tensor(name, plain[: len(arranger.shapes[name])]) for name in node.inputs)
    arranger.add(node, tuple(inputs), plain)


def matmul(arranger: Arranger, node: MatMul) -> None:
    """A product may read either operand with its last two axes swapped.

    If both are stored so, the product of the stored tensors is the result with its axes swapped.
    """
    rank = len(node.shape)
    plain = tuple(range(rank))
    swapped = (*plain[:-2], rank - 1, rank - 2)
    orders = [
        [_large(arranger, name, order) for order in (arranger.order(name), plain, swapped)]
        for name in node.inputs
    ]
    turned = [stored == other != own for stored, own, other in orders]
    if all(turned):
        inputs = tuple(arranger.tensor(name, swapped) for name in node.inputs[::-1])
        arranger.add(node, inputs, swapped)
        return
    inputs = tuple(
        arranger.tensor(name, swapped if turn else plain)
        for name, turn in zip(node.inputs, turned, strict=True)
    )
    arranger.add(node, inputs, plain, swapped=tuple(turned))


def _large(arranger: Arranger, name: str, order: Order) -> Order:
    """Return an order without the axes of size 1 of a value."""
    return tuple(axis for axis in order if arranger.shapes[name][axis] != 1)


def _pointwise(arranger: Arranger, node: Linear, order: Order) -> None:
    layer = Conv(
        name=node.name,
        inputs=node.inputs,
        shape=node.shape,
        weight=node.weight[:, :, None, None],
        bias=node.bias,
        stride=(1, 1),
        padding=((0, 0), (0, 0)),
        dilation=(1, 1),
        fused=node.fused,
    )
    arranger.add(layer, (arranger.tensor(node.inputs[0], order),), order)


def _common_order(arranger: Arranger, node: Node) -> Order:
    """Return the order of one of the largest operands that are no constants.

    That is the one in which the result is read, if data would move otherwise, else that of the
    first.
    """
    sizes = {name: prod(arranger.shapes[name]) for name in node.inputs}
    values = [name for name in node.inputs if name not in arranger.constants]
    if not values:
        return arranger.native(len(node.shape))
    largest = max(sizes[name] for name in values)
    orders = [arranger.order(name) for name in values if sizes[name] == largest]
    if (
        len({_large(arranger, values[0], order) for order in orders}) > 1
        and (wanted := wanted_order(arranger, node.name)) in orders
    ):
        return wanted
    return orders[0]


def _last_inside(order: Order) -> Order:
    """Return the order in which the last axis is the innermost: the plain one if data moves."""
    plain = tuple(range(len(order)))
    return order if order[-1] == plain[-1] else plain


def _with_last(order: Order, axis: int) -> Order:
    return (*(other for other in order if other != axis), axis)


RULES: dict[type[Node], Rule] = {
    **dict.fromkeys(SPATIAL, spatial),
    **dict.fromkeys((Arithmetic, Select), elementwise),
    **dict.fromkeys((Reduce, ArgExtreme, Slice, Pad, Gather, Expand), same_order),
    Activation: activation,
    Cast: cast,
    Concat: concat,
    Constant: constant,
    GridSample: grid_sample,
    LayerNorm: layer_norm,
    Linear: linear,
    Lookup: lookup,
    MatMul: matmul,
    Reshape: reshape,
    **dict.fromkeys((Take, ScatterAdd), rows),
    TopK: top,
    Transpose: transpose,
}

__all__ = ["NCHW", "NHWC", "Arranged", "arrange"]
