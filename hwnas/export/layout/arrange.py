"""Arranges a graph for a format that stores feature maps as NCHW or as NHWC.

Each value is stored under an order of its axes. A permutation changes only the order that is
recorded for it, and so does a reshape that splits or merges neighbours; data moves where an
operator needs another order than its operand has. In the result every shape and axis is that of the
stored tensor, and each `Transpose` is an operator.
"""

from __future__ import annotations

from typing import Any

import msgspec

from hwnas.export.graph.nodes import Constant, Graph, Node, Reshape, TensorSpec, Transpose

Order = tuple[int, ...]
"""Axis of a value that each axis of the stored tensor holds."""
NCHW: Order = (0, 1, 2, 3)
NHWC: Order = (0, 2, 3, 1)


class Arranged(msgspec.Struct, frozen=True, eq=False):
    """Nodes in terms of the stored tensors."""

    inputs: tuple[TensorSpec, ...]
    nodes: tuple[Node, ...]
    outputs: tuple[TensorSpec, ...]

    @property
    def transposes(self) -> int:
        """Number of operators that only move data to another order."""
        return sum(isinstance(node, Transpose) for node in self.nodes)


class Arranger:
    """The arranged graph under construction."""

    def __init__(self, graph: Graph, maps: Order) -> None:
        self.graph, self.maps = graph, maps
        self.nodes: dict[str, Node] = {}
        self.shapes: dict[str, tuple[int, ...]] = {
            **{spec.name: spec.shape for spec in graph.inputs},
            **{node.name: node.shape for node in graph.nodes},
        }
        self.readers: dict[str, list[Node]] = {}
        for node in graph.nodes:
            for name in node.inputs:
                self.readers.setdefault(name, []).append(node)
        self.constants: dict[str, Any] = {}
        """Arrays of the constants, stored in whatever order they are read in."""
        self.inputs = {spec.name: _permuted_spec(spec, self) for spec in graph.inputs}
        self.outputs = {spec.name for spec in graph.outputs}
        self.stored: dict[str, tuple[str, Order]] = {
            name: (name, self.native(len(spec.shape))) for name, spec in self.inputs.items()
        }
        """Tensor, and its order, that holds each value."""
        self.copies: dict[tuple[str, Order], str] = {}
        """Tensors that hold a value under another order."""
        self.flattened: dict[str, tuple[tuple[int, ...], Order]] = {}
        """Shape before, and stored order, of values that are flattened in that order."""
        self.wanted: dict[str, Order | None] = {}
        """Order in which a value is read first, if it is known."""

    def native(self, rank: int) -> Order:
        """Return the order that the format's operators on feature maps take."""
        return self.maps if rank == 4 else tuple(range(rank))

    def order(self, name: str) -> Order:
        """Return the order in which a value is stored; the native one for a constant."""
        if name in self.constants:
            return self.native(len(self.shapes[name]))
        return self.stored[name][1]

    def tensor(self, name: str, order: Order) -> str:
        """Return the tensor that holds a value under ``order``, moving data where necessary."""
        if name in self.constants:
            return self._constant(name, order)
        tensor, stored = self.stored[name]
        if stored == order:
            return tensor
        if (name, order) not in self.copies:
            self.copies[name, order] = self._reordered(name, tensor, stored, order)
        return self.copies[name, order]

    def add(self, node: Node, inputs: tuple[str, ...], order: Order, **fields: Any) -> None:
        """Add ``node`` with its tensors as ``inputs``; its output is stored under ``order``."""
        shape = permuted(node.shape, order)
        name = self._tensor_name(node, order)
        self.put(msgspec.structs.replace(node, name=name, inputs=inputs, shape=shape, **fields))
        self.stored[node.name] = name, order
        self.copies[node.name, order] = name

    def put(self, node: Node) -> str:
        """Add a node unchanged and return its name."""
        self.nodes[node.name] = node
        return node.name

    def hold(self, name: str, tensor: str, order: Order) -> None:
        """State that an existing tensor holds the value ``name`` under ``order``."""
        self.stored[name] = tensor, order

    def shape_of(self, tensor: str) -> tuple[int, ...]:
        return self.inputs[tensor].shape if tensor in self.inputs else self.nodes[tensor].shape

    def finish(self) -> Arranged:
        """Let each output be a tensor of its name in the native order."""
        for spec in self.graph.outputs:
            tensor = self.tensor(spec.name, self.native(len(spec.shape)))
            if tensor != spec.name:
                self.put(Reshape(name=spec.name, inputs=(tensor,), shape=self.shape_of(tensor)))
                self._rename_source(spec.name, tensor)
        return Arranged(
            tuple(self.inputs.values()),
            tuple(self.nodes.values()),
            tuple(_permuted_spec(spec, self) for spec in self.graph.outputs),
        )

    def _rename_source(self, name: str, source: str) -> None:
        """Drop a reshape that does nothing, and let the node before it be the output."""
        node = self.nodes.get(source)
        read = sum(source in other.inputs for other in self.nodes.values()) > 1
        if node is None or isinstance(node, Constant) or read or source in self.outputs:
            return
        del self.nodes[name]
        renamed = msgspec.structs.replace(node, name=name)
        self.nodes = {
            (name if key == source else key): renamed if key == source else other
            for key, other in self.nodes.items()
        }
        self.stored = {
            key: (name if tensor == source else tensor, order)
            for key, (tensor, order) in self.stored.items()
        }
        self.copies = {
            key: name if tensor == source else tensor for key, tensor in self.copies.items()
        }

    def _constant(self, name: str, order: Order) -> str:
        values = self.constants[name].transpose(order)
        unmoved = order == self.native(values.ndim)
        tensor = name if unmoved else f"{name}.{_title(order)}"
        if tensor not in self.nodes:
            array = values.copy(order="C")  # of no axes, too
            self.put(Constant(name=tensor, inputs=(), shape=array.shape, value=array))
        return tensor

    def _tensor_name(self, node: Node, order: Order) -> str:
        return node.name if order == self.native(len(order)) else f"{node.name}.{_title(order)}"

    def _reordered(self, name: str, tensor: str, stored: Order, order: Order) -> str:
        shape = permuted(self.shapes[name], order)
        target = name if order == self.native(len(order)) else f"{name}.{_title(order)}"
        if target in self.nodes:
            target = f"{target}.again"
        if moves_data(permuted(self.shapes[name], stored), axes := _between(stored, order)):
            return self.put(Transpose(name=target, inputs=(tensor,), shape=shape, order=axes))
        return self.put(Reshape(name=target, inputs=(tensor,), shape=shape))


def permuted(values: tuple[Any, ...], order: Order) -> tuple[Any, ...]:
    return tuple(values[axis] for axis in order)


def moves_data(shape: tuple[int, ...], order: Order) -> bool:
    """Return whether a transpose changes the order of elements; axes of size 1 do not count."""
    axes = [axis for axis in order if shape[axis] > 1]
    return axes != sorted(axes)


def _between(stored: Order, order: Order) -> Order:
    return tuple(stored.index(axis) for axis in order)


def _title(order: Order) -> str:
    return "axes" + "".join(map(str, order))


def _permuted_spec(spec: TensorSpec, arranger: Arranger) -> TensorSpec:
    order = arranger.native(len(spec.shape))
    return TensorSpec(spec.name, permuted(spec.shape, order), spec.dtype)
