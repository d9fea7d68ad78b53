"""What lies between PyTorch and a file: a graph of plain nodes with all shapes and weights known.

Values are float32 and ``[1, C, H, W]`` or ``[1, C]``; a writer for another layout transposes the
weights, never the values. Batch norm is folded into the convolutions before.
"""

from __future__ import annotations

from typing import Any, Literal

import msgspec
import numpy as np

Array = np.ndarray[Any, np.dtype[np.float32]]
Fused = Literal["relu", "relu6"]
"""What a node may apply to its own output."""

INPUT, OUTPUT = "images", "logits"
"""Names of the graph's input and output, in every format."""


class Node(msgspec.Struct, frozen=True, eq=False, kw_only=True):
    """One operation and its only output, both called ``name``."""

    name: str
    inputs: tuple[str, ...]
    shape: tuple[int, ...]
    """Of the output."""


class Conv(Node, frozen=True, eq=False, kw_only=True):
    """Convolution with zero padding; pairs are (height, width)."""

    weight: Array
    """``[O, I, h, w]``; ``[C, 1, h, w]`` if depthwise."""
    bias: Array
    """``[O]``"""
    stride: tuple[int, int]
    padding: tuple[int, int]
    """Zeros added at each of the two sides."""
    dilation: tuple[int, int]
    depthwise: bool
    fused: Fused | None = None


class Linear(Node, frozen=True, eq=False, kw_only=True):
    """``[1, I]`` to ``[1, O]``."""

    weight: Array
    """``[O, I]``"""
    bias: Array
    """``[O]``"""
    fused: Fused | None = None


class Arithmetic(Node, frozen=True, eq=False, kw_only=True):
    """Elementwise, of two values of the same rank; sizes of 1 are broadcast."""

    op: Literal["add", "mul"]
    fused: Fused | None = None


class Activation(Node, frozen=True, eq=False, kw_only=True):
    """An activation that no other node carries."""

    op: Literal["relu", "relu6", "hardswish", "hardsigmoid", "sigmoid"]


class Pool(Node, frozen=True, eq=False, kw_only=True):
    """Mean over height and width, to ``[1, C, 1, 1]`` or ``[1, C]``."""


class WindowPool(Node, frozen=True, eq=False, kw_only=True):
    """Largest value or mean in each window; what is added at the sides counts in neither."""

    op: Literal["max", "mean"]
    size: tuple[int, int]
    stride: tuple[int, int]
    padding: tuple[int, int]
    """Added at each of the two sides."""


class Slice(Node, frozen=True, eq=False, kw_only=True):
    """All but the first rows and columns."""

    begin: tuple[int, int]


class Concat(Node, frozen=True, eq=False, kw_only=True):
    """The channels of all inputs, in order."""


class Zeros(Node, frozen=True, eq=False, kw_only=True):
    """A constant, without inputs."""


class Flatten(Node, frozen=True, eq=False, kw_only=True):
    """``[1, C, 1, 1]`` to ``[1, C]``."""


class Graph(msgspec.Struct, frozen=True, eq=False):
    """Nodes in an order in which they can run; the last value is called ``logits``."""

    input_shape: tuple[int, int, int]
    """Channels, height, width of the value called ``images``."""
    nodes: tuple[Node, ...]

    @property
    def output_shape(self) -> tuple[int, ...]:
        return next(node.shape for node in self.nodes if node.name == OUTPUT)
