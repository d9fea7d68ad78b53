"""ONNX emitters for nodes that only move data: reshape, transpose, channel shuffle."""

from __future__ import annotations

import numpy as np

from hwnas.export.graph.nodes import Reshape, Shuffle, Transpose
from hwnas.export.onnx.model_builder import OnnxBuilder, emits


@emits(Reshape)
def reshape(builder: OnnxBuilder, node: Reshape) -> None:
    """A size of 0 keeps the input's, here that of a dynamic batch."""
    before = builder.shapes[node.inputs[0]]
    if len(node.shape) == 2 and before[:1] == node.shape[:1]:
        builder.add("Flatten", node.inputs, node.name)
        return
    sizes = (0, *node.shape[1:]) if builder.dynamic_batch else node.shape
    shape = builder.node_constant(node, "shape", np.array(sizes, np.int64))
    builder.add("Reshape", (*node.inputs, shape), node.name)


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
    rows = np.array((0, node.groups, channels // node.groups, height, width), np.int64)
    whole = np.array((0, channels, height, width), np.int64)
    split, swapped = f"{node.name}.split", f"{node.name}.swapped"
    builder.add("Reshape", (*node.inputs, builder.node_constant(node, "rows", rows)), split)
    builder.add("Transpose", (split,), swapped, perm=(0, 2, 1, 3, 4))
    builder.add("Reshape", (swapped, builder.node_constant(node, "whole", whole)), node.name)
