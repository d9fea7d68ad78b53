"""What lies between PyTorch and a file: a graph of plain nodes with all shapes and weights known.

Values are float32 and have PyTorch's order of axes, ``[1, C, H, W]`` or ``[1, C]``; a writer for
another layout transposes the weights, never the values. Batch norm is folded into the convolutions
before.
"""

from __future__ import annotations

from typing import Any, Literal

import msgspec
import numpy as np

Array = np.ndarray[Any, np.dtype[np.float32]]
Fused = Literal["relu", "relu6"]
"""What a node may apply to its own output."""

Sides = tuple[tuple[int, int], tuple[int, int]]
"""Pixels at (top, bottom) and at (left, right)."""

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
    """``[O, I / groups, h, w]``"""
    bias: Array
    """``[O]``"""
    stride: tuple[int, int]
    padding: Sides
    dilation: tuple[int, int]
    groups: int = 1
    fused: Fused | None = None

    @property
    def depthwise(self) -> bool:
        """Whether every output channel sees one of several input channels."""
        return self.groups > 1 and self.weight.shape[1] == 1


class ConvTranspose(Node, frozen=True, eq=False, kw_only=True):
    """Transposed convolution; ``shape`` says how many rows and columns are kept at the end."""

    weight: Array
    """``[I, O / groups, h, w]``"""
    bias: Array
    """``[O]``"""
    stride: tuple[int, int]
    begin: tuple[int, int]
    """Rows and columns that are cut off at the start."""
    dilation: tuple[int, int]
    groups: int = 1


class Linear(Node, frozen=True, eq=False, kw_only=True):
    """``[1, I]`` to ``[1, O]``."""

    weight: Array
    """``[O, I]``"""
    bias: Array
    """``[O]``"""
    fused: Fused | None = None


class LayerNorm(Node, frozen=True, eq=False, kw_only=True):
    """Over the channels, at each pixel: to mean 0 and variance 1, then gain and shift."""

    gain: Array
    """``[C]``"""
    shift: Array
    """``[C]``"""
    eps: float


class Arithmetic(Node, frozen=True, eq=False, kw_only=True):
    """Elementwise, of two values of the same rank; sizes of 1 are broadcast."""

    op: Literal["add", "sub", "mul", "div", "minimum", "maximum"]
    fused: Fused | None = None
    """Never of ``minimum`` and ``maximum``."""


ActivationOp = Literal[
    "relu", "relu6", "hardswish", "hardsigmoid", "sigmoid", "tanh", "gelu", "gelu_tanh", "elu",
    "leaky_relu", "exp", "log", "sqrt", "abs", "neg", "softmax", "log_softmax",
]  # fmt: skip


class Activation(Node, frozen=True, eq=False, kw_only=True):
    """A function of one value that no other node carries; softmax is over the channels."""

    op: ActivationOp
    slope: float = 0.0
    """Of ``leaky_relu`` below 0."""


class Prelu(Node, frozen=True, eq=False, kw_only=True):
    """``max(x, 0) + slope * min(x, 0)``"""

    slope: Array
    """``[C]``"""


class Pool(Node, frozen=True, eq=False, kw_only=True):
    """Mean over height and width, to ``[1, C, 1, 1]`` or ``[1, C]``."""


class Mean(Node, frozen=True, eq=False, kw_only=True):
    """Mean over some axes, each of which stays with size 1."""

    axes: tuple[int, ...]


class WindowPool(Node, frozen=True, eq=False, kw_only=True):
    """Largest value or mean in each window."""

    op: Literal["max", "mean"]
    size: tuple[int, int]
    stride: tuple[int, int]
    padding: Sides
    counts_padding: bool = False
    """Whether a mean is of zeros at the sides too; else they count in neither sum nor number."""


class Slice(Node, frozen=True, eq=False, kw_only=True):
    """Every ``step``-th element from ``begin`` on of each axis, as many as ``shape`` says."""

    begin: tuple[int, ...]
    step: tuple[int, ...]


class Pad(Node, frozen=True, eq=False, kw_only=True):
    """More elements at the sides: a constant, or (``value=None``) mirrored without the edge."""

    sides: tuple[tuple[int, int], ...]
    """Of each axis."""
    value: float | None


class Resize(Node, frozen=True, eq=False, kw_only=True):
    """To another height and width; bilinear where it is not the nearest (rounded down) pixel."""

    nearest: bool
    align_corners: bool


class Shuffle(Node, frozen=True, eq=False, kw_only=True):
    """Channels as rows of ``groups``, read by columns (Zhang et al., arXiv:1707.01083)."""

    groups: int


class Concat(Node, frozen=True, eq=False, kw_only=True):
    """All inputs, in order, along ``axis``."""

    axis: int = 1


class Constant(Node, frozen=True, eq=False, kw_only=True):
    """Known before any image, without inputs."""

    value: Array


class Reshape(Node, frozen=True, eq=False, kw_only=True):
    """The same elements in the same order, channels first."""


class Graph(msgspec.Struct, frozen=True, eq=False):
    """Nodes in an order in which they can run; the last value is called ``logits``."""

    input_shape: tuple[int, int, int]
    """Channels, height, width of the value called ``images``."""
    nodes: tuple[Node, ...]

    @property
    def output_shape(self) -> tuple[int, ...]:
        return next(node.shape for node in self.nodes if node.name == OUTPUT)
