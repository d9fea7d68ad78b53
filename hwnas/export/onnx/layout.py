"""ONNX emitters for nodes that only move data: reshape and channel shuffle."""

from __future__ import annotations

import numpy as np

from hwnas.export.graph.nodes import Reshape, Shuffle
from hwnas.export.onnx.model_builder import OnnxBuilder, emits


@emits(Reshape)
def reshape(builder: OnnxBuilder, node: Reshape) -> None:
    if len(node.shape) == 2:
        builder.add("Flatten", node.inputs, node.name)
    else:
        shape = builder.node_constant(node, "shape", np.array((0, *node.shape[1:]), np.int64))
        builder.add("Reshape", (*node.inputs, shape), node.name)


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
