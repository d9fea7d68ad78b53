"""Steps of operations that take several nodes: shapes follow from the operands."""

from __future__ import annotations

from itertools import groupby
from math import prod
from typing import Any

import numpy as np

from hwnas.export.graph.nodes import (
    Activation,
    ArgExtreme,
    Arithmetic,
    Concat,
    Constant,
    Expand,
    Gather,
    MatMul,
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
from hwnas.export.graph.recording import Call, Shape
from hwnas.export.lowering.lowering import Lowering

MAX_REDUCED_AXES = 6
"""What XNNPACK takes."""


class Steps:
    """Adds nodes for one call; operands are names of nodes, or numbers and arrays."""

    def __init__(self, lowering: Lowering, call: Call) -> None:
        self.lowering, self.call = lowering, call

    def shape(self, name: str) -> Shape:
        return self.lowering.shape(name)

    def arithmetic(self, op: str, left: Any, right: Any) -> str:
        inputs = self._aligned(left, right)
        return self._add(op, Arithmetic, inputs, self._broadcast(inputs), op=op)

    def select(self, op: str, left: Any, right: Any, then: Any, otherwise: Any) -> str:
        """Return ``then`` where ``left op right``, else ``otherwise``."""
        inputs = self._aligned(left, right, then, otherwise)
        return self._add("select", Select, inputs, self._broadcast(inputs), op=op)

    def activation(self, op: str, value: str, **fields: Any) -> str:
        return self._add(op, Activation, (value,), self.shape(value), op=op, **fields)

    def towards_zero(self, value: str) -> str:
        up, down = (self.activation(op, value) for op in ("ceil", "floor"))
        return self.select("lt", value, 0.0, up, down)

    def reduce(self, op: str, value: str, axes: tuple[int, ...]) -> str:
        before = self.shape(value)
        shape = tuple(1 if axis in axes else n for axis, n in enumerate(before))
        if len(before) > MAX_REDUCED_AXES:  # neighbours that are all reduced, or all not, are one
            runs = [
                (reduced, prod(before[axis] for axis in run))
                for reduced, run in groupby(range(len(before)), axes.__contains__)
            ]
            merged = tuple(place for place, (reduced, _) in enumerate(runs) if reduced)
            rows = self.reshape(value, tuple(size for _, size in runs))
            return self.reshape(self.reduce(op, rows, merged), shape)
        return self._add(op, Reduce, (value,), shape, op=op, axes=axes)

    def arg_extreme(self, op: str, value: str, axis: int) -> str:
        """Return the indices of the extremes of an axis, which stays with size 1."""
        shape = tuple(1 if n == axis else size for n, size in enumerate(self.shape(value)))
        return self._add(f"arg{op}", ArgExtreme, (value,), shape, op=op, axis=axis)

    def top(self, value: str, count: int) -> tuple[str, str]:
        """Return the largest elements of the last axis, and their indices."""
        shape = (*self.shape(value)[:-1], count)
        names = ("top", False), ("top.indices", True)
        values, indices = (
            self._add(name, TopK, (value,), shape, indices=indices) for name, indices in names
        )
        return values, indices

    def reshape(self, value: str, shape: Shape) -> str:
        """Reshape; an axis of -1 has all elements that are left."""
        if -1 in shape:
            rest = prod(self.shape(value)) // -prod(shape)
            shape = tuple(rest if size == -1 else size for size in shape)
        node = self.lowering.nodes.get(value)
        if shape == self.shape(value):
            return value
        if isinstance(node, Constant):
            return self.name(node.value.reshape(shape))
        return self._add("reshape", Reshape, (value,), shape)

    def transpose(self, value: str, order: tuple[int, ...]) -> str:
        if order == tuple(range(len(order))):
            return value
        shape = tuple(self.shape(value)[axis] for axis in order)
        return self._add("transpose", Transpose, (value,), shape, order=order)

    def slice(self, value: str, axis: int, begin: int, size: int, step: int = 1) -> str:
        """Take elements of an axis; a slice of a slice is one of the whole."""
        shape, node = list(self.shape(value)), self.lowering.nodes.get(value)
        if (begin, size, step) == (0, shape[axis], 1):
            return value
        begins, steps = [0] * len(shape), [1] * len(shape)
        if isinstance(node, Slice):
            (value,), begins, steps = node.inputs, list(node.begin), list(node.step)
        shape[axis], begins[axis] = size, begins[axis] + steps[axis] * begin
        steps[axis] *= step
        fields = {"begin": tuple(begins), "step": tuple(steps)}
        return self._add("slice", Slice, (value,), tuple(shape), **fields)

    def concat(self, values: list[str], axis: int) -> str:
        if len(values) == 1:
            return values[0]
        shape = list(self.shape(values[0]))
        shape[axis] = sum(self.shape(value)[axis] for value in values)
        return self._add("concat", Concat, tuple(values), tuple(shape), axis=axis)

    def gather(self, value: str, axis: int, indices: tuple[int, ...]) -> str:
        size = self.shape(value)[axis]
        if indices == tuple(range(size)):
            return value
        shape = list(self.shape(value))
        shape[axis] = len(indices)
        return self._add("gather", Gather, (value,), tuple(shape), axis=axis, indices=indices)

    def take(self, rows: str, places: str) -> str:
        """Return rows of ``[..., R, D]`` at computed places ``[..., K]``: ``[..., K, D]``."""
        shape = (*self.shape(places), self.shape(rows)[-1])
        return self._add("take", Take, (rows, places), shape)

    def scatter_add(self, rows: str, places: str, count: int) -> str:
        """Return ``count`` rows that are sums of ``[..., K, D]``, each added at its place.

        Places are ``[..., K]``; rows at which there is none are 0.
        """
        *batch, _, elements = self.shape(rows)
        return self._add("scatter", ScatterAdd, (rows, places), (*batch, count, elements))

    def pad(self, value: str, sides: tuple[tuple[int, int], ...], fill: float | None) -> str:
        if not np.any(sides):
            return value
        pairs = zip(self.shape(value), sides, strict=True)
        shape = tuple(size + sum(side) for size, side in pairs)
        return self._add("pad", Pad, (value,), shape, sides=sides, value=fill)

    def expand(self, value: str, shape: Shape) -> str:
        value = self.of_rank(value, len(shape))
        return value if self.shape(value) == shape else self._add("expand", Expand, (value,), shape)

    def matmul(self, left: Any, right: Any) -> str:
        """Multiply the last two axes of operands that have two axes or more."""
        inputs = self._aligned(left, right)
        first, second = (self.shape(name) for name in inputs)
        batch = np.broadcast_shapes(first[:-2], second[:-2])
        return self._add("matmul", MatMul, inputs, (*batch, first[-2], second[-1]))

    def of_rank(self, value: str, rank: int) -> str:
        """Put axes of size 1 before the others."""
        shape = self.shape(value)
        return self.reshape(value, (1,) * (rank - len(shape)) + shape)

    def name(self, operand: Any) -> str:
        if isinstance(operand, str):
            return operand
        return self.lowering.constant_node(self.call, operand)

    def finish(self, value: str) -> None:
        """Let ``value`` be the result of the call."""
        self.lowering.finish(self.call, value)

    def _aligned(self, *operands: Any) -> tuple[str, ...]:
        names = [self.name(operand) for operand in operands]
        rank = max(len(self.shape(name)) for name in names)
        return tuple(self.of_rank(name, rank) for name in names)

    def _broadcast(self, names: tuple[str, ...]) -> Shape:
        return tuple(np.broadcast_shapes(*map(self.shape, names)))

    def _add(self, suffix: str, kind: Any, inputs: Any, shape: Any, **fields: Any) -> str:
        shape = tuple(int(size) for size in shape)
        return self.lowering.step(self.call, suffix, kind, inputs, shape, **fields)


def count(shape: Shape, axes: tuple[int, ...]) -> int:
    """Return the number of elements along some axes."""
    return prod(shape[axis] for axis in axes)
