"""ONNX emitters for nodes that only move data: reshape, transpose, channel shuffle."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from hwnas.export.graph.nodes import Reshape, Shuffle, Transpose
from hwnas.export.onnx.model_builder import OnnxBuilder, emits


@emits(Reshape)
def reshape(builder: OnnxBuilder, node: Reshape) -> None:
    before = builder.shapes[node.inputs[0]]
    if len(node.shape) == 2 and before[:1] == node.shape[:1]:
        builder.add("Flatten", node.inputs, node.name)
        return
    builder.add("Reshape", (*node.inputs, _target(builder, node)), node.name)


def _target(builder: OnnxBuilder, node: Reshape) -> str:
    """Return the sizes after a reshape: 0 keeps the input's, -1 is what remains.

    They are for axes that are free: the batch, and those that depend on the size of the image. Of
    several that do, all but one come from the shapes of values before.
    """
    (value,), sizes = node.inputs, list(node.shape)
    free = [axis for axis in range(len(sizes)) if builder.is_free(node.name, axis)]
    for axis in free:
        if axis < len(builder.shapes[value]):
            same = builder.sizes(value, axis) == builder.sizes(node.name, axis)
            sizes[axis] = 0 if same else sizes[axis]
    rest = [axis for axis in free if sizes[axis]]
    if builder.dynamic_batch:
        merged = not rest and builder.shapes[value][:1] != node.shape[:1]
        sizes[0] = -1 if merged else 0
    if not rest:
        return builder.node_constant(node, "sizes", np.array(sizes, np.int64))
    sources = {axis: _size_source(builder, node, axis) for axis in rest}
    remaining = next((axis for axis in rest if sources[axis] is None), rest[-1])
    sizes[remaining], sources[remaining] = -1, None
    parts: list[str] = []
    for axis, size in enumerate(sizes):
        source = sources.get(axis)
        if source is not None:
            parts.append(_computed_size(builder, node, axis, source))
        elif parts and not isinstance(sources.get(axis - 1), Source):
            values = builder.initializers[parts[-1]]
            builder.initializers[parts[-1]] = np.append(values, np.int64(size))
        else:
            parts.append(builder.node_constant(node, f"sizes{axis}", np.array([size], np.int64)))
    if len(parts) == 1:
        return parts[0]
    builder.add("Concat", tuple(parts), f"{node.name}.shape", axis=0)
    return f"{node.name}.shape"


class Source(NamedTuple):
    """An axis of a value before, of which a size is a multiple."""

    value: str
    axis: int
    factor: int


def _size_source(builder: OnnxBuilder, node: Reshape, axis: int) -> Source | None:
    """Return where the size of a free axis comes from; the operand is asked first."""
    wanted = builder.sizes(node.name, axis)
    sources: list[Source] = []
    for name in (*node.inputs, *builder.written()):
        for place in range(len(builder.shapes[name])):
            pairs = zip(wanted, builder.sizes(name, place), strict=True)
            factors = {after / before for after, before in pairs}
            factor = factors.pop()
            if builder.is_free(name, place) and not factors and factor == int(factor):
                sources.append(Source(name, place, int(factor)))
    from_end = len(node.shape) - axis

    def preference(source: Source) -> tuple[int, bool, int]:
        """Prefer the size itself, of the operand, at the same place from the end."""
        distance = abs(len(builder.shapes[source.value]) - source.axis - from_end)
        return source.factor, source.value not in node.inputs, distance

    return min(sources, key=preference, default=None)


def _computed_size(builder: OnnxBuilder, node: Reshape, axis: int, source: Source) -> str:
    name = f"{node.name}.size{axis}"
    builder.add("Shape", (source.value,), name, start=source.axis, end=source.axis + 1)
    if source.factor == 1:
        return name
    factor = builder.node_constant(node, f"factor{axis}", np.array([source.factor], np.int64))
    builder.add("Mul", (name, factor), f"{name}.times")
    return f"{name}.times"


@emits(Transpose)
def transpose(builder: OnnxBuilder, node: Transpose) -> None:
    builder.add("Transpose", node.inputs, node.name, perm=node.order)


def swap_last_axes(builder: OnnxBuilder, value: str, output: str) -> str:
    """Add a transpose of matrices and return its name."""
    rank = len(builder.shapes[value])
    builder.add("Transpose", (value,), output, perm=(*range(rank - 2), rank - 1, rank - 2))
    return output


@emits(Shuffle)
def shuffle(builder: OnnxBuilder, node: Shuffle) -> None:
    """A size of 0 keeps the input's, here that of the batch."""
    _, channels, height, width = node.shape
    split, swapped = f"{node.name}.split", f"{node.name}.swapped"
    if builder.resized is not None:
        _shuffle_any_size(builder, node, split, swapped)
        return
    rows = np.array((0, node.groups, channels // node.groups, height, width), np.int64)
    whole = np.array((0, channels, height, width), np.int64)
    builder.add("Reshape", (*node.inputs, builder.node_constant(node, "rows", rows)), split)
    builder.add("Transpose", (split,), swapped, perm=(0, 2, 1, 3, 4))
    builder.add("Reshape", (swapped, builder.node_constant(node, "whole", whole)), node.name)


def _shuffle_any_size(builder: OnnxBuilder, node: Shuffle, split: str, swapped: str) -> None:
    """Height and width are one axis meanwhile, and come back from the shape of the input."""
    rows = np.array((0, node.groups, node.shape[1] // node.groups, -1), np.int64)
    builder.add("Reshape", (*node.inputs, builder.node_constant(node, "rows", rows)), split)
    builder.add("Transpose", (split,), swapped, perm=(0, 2, 1, 3))
    builder.add("Shape", node.inputs, f"{node.name}.whole")
    builder.add("Reshape", (swapped, f"{node.name}.whole"), node.name)
