"""The compiler's graph, between PyTorch and a file: nodes with all their shapes and weights.

Values are float32 in PyTorch's order of axes, ``[1, C, H, W]`` for feature maps; they are converted
to the order of a format afterwards (`hwnas.export.layout`). Only inputs, outputs and indices of
lookups may be integers; indices that are computed are float32, exact up to 2^24. Batch norm is
folded into the layer before it.
"""

from __future__ import annotations

from typing import Any, Literal

import msgspec
import numpy as np

Array = np.ndarray[Any, np.dtype[np.float32]]
Fused = Literal["relu", "relu6"]
"""Activation that a node may apply to its own output."""

Sides = tuple[tuple[int, int], tuple[int, int]]
"""Pixels at (top, bottom) and at (left, right)."""

INPUT, OUTPUT = "images", "logits"
"""Names of the input and output of a network that takes images and returns a tensor."""

DType = Literal["float32", "int64", "int32", "uint8", "bool"]


class TensorSpec(msgspec.Struct, frozen=True):
    """An input or an output of a model."""

    name: str
    shape: tuple[int, ...]
    """With the batch, which is 1."""
    dtype: DType = "float32"


class Node(msgspec.Struct, frozen=True, eq=False, kw_only=True):
    """An operation and its only output, both called ``name``."""

    name: str
    inputs: tuple[str, ...]
    shape: tuple[int, ...]
    """Shape of the output."""


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
        """Whether every output channel reads a single one of several input channels."""
        return self.groups > 1 and self.weight.shape[1] == 1


class ConvTranspose(Node, frozen=True, eq=False, kw_only=True):
    """Transposed convolution, cropped to ``shape`` from ``begin`` on."""

    weight: Array
    """``[I, O / groups, h, w]``"""
    bias: Array
    """``[O]``"""
    stride: tuple[int, int]
    begin: tuple[int, int]
    """Number of rows and columns that are cropped at the start."""
    dilation: tuple[int, int]
    groups: int = 1


class Linear(Node, frozen=True, eq=False, kw_only=True):
    """Linear layer on the last axis, ``[..., I]`` to ``[..., O]``."""

    weight: Array
    """``[O, I]``"""
    bias: Array
    """``[O]``"""
    fused: Fused | None = None


class MatMul(Node, frozen=True, eq=False, kw_only=True):
    """Matrix product of the last two axes of two values of the same rank; the others broadcast."""

    swapped: tuple[bool, bool] = (False, False)
    """Whether each operand is stored with its last two axes swapped; only once arranged."""


class LayerNorm(Node, frozen=True, eq=False, kw_only=True):
    """``(x - mean) / sqrt(var + eps) * gain + shift`` over the last axis."""

    gain: Array
    """``[C]``"""
    shift: Array
    """``[C]``"""
    eps: float


class Arithmetic(Node, frozen=True, eq=False, kw_only=True):
    """Elementwise operation on two values of the same rank; axes of size 1 are broadcast."""

    op: Literal["add", "sub", "mul", "div", "minimum", "maximum", "pow"]
    fused: Fused | None = None
    """Always None for ``minimum``, ``maximum`` and ``pow``."""


class Select(Node, frozen=True, eq=False, kw_only=True):
    """The third input where ``first op second``, else the fourth; all broadcast, of one rank."""

    op: Comparison


Comparison = Literal["gt", "ge", "lt", "le", "eq", "ne"]

ActivationOp = Literal[
    "relu",
    "relu6",
    "hardswish",
    "hardsigmoid",
    "sigmoid",
    "tanh",
    "gelu",
    "gelu_tanh",
    "elu",
    "leaky_relu",
    "exp",
    "log",
    "sqrt",
    "abs",
    "neg",
    "sin",
    "cos",
    "floor",
    "round",
    "ceil",
    "softmax",
    "log_softmax",
]


class Activation(Node, frozen=True, eq=False, kw_only=True):
    """Elementwise function that is not fused into another node, or a softmax over ``axis``."""

    op: ActivationOp
    axis: int = 1
    """Axis of a softmax."""
    slope: float = 0.0
    """Slope of ``leaky_relu`` below 0."""


class Prelu(Node, frozen=True, eq=False, kw_only=True):
    """``max(x, 0) + slope * min(x, 0)``"""

    slope: Array
    """``[C]``"""


class Pool(Node, frozen=True, eq=False, kw_only=True):
    """Mean over height and width, to ``[1, C, 1, 1]`` or ``[1, C]``."""


class Reduce(Node, frozen=True, eq=False, kw_only=True):
    """Reduction over some axes, each of which stays with size 1."""

    op: Literal["mean", "sum", "max", "min", "prod"]
    axes: tuple[int, ...]


class ArgExtreme(Node, frozen=True, eq=False, kw_only=True):
    """Index of the largest or smallest element of ``axis``, which stays with size 1; the first of
    equal elements."""

    op: Literal["max", "min"]
    axis: int


class TopK(Node, frozen=True, eq=False, kw_only=True):
    """The largest elements of the last axis, the largest first, or their indices."""

    indices: bool


class GridSample(Node, frozen=True, eq=False, kw_only=True):
    """Values of a map at points ``[N, H, W, 2]``, (x, y) from -1 to 1 within the map."""

    mode: Literal["bilinear", "nearest", "bicubic"]
    padding: Literal["zeros", "border", "reflection"]
    align_corners: bool


class WindowPool(Node, frozen=True, eq=False, kw_only=True):
    """Maximum or mean of each window."""

    op: Literal["max", "mean"]
    size: tuple[int, int]
    stride: tuple[int, int]
    padding: Sides
    counts_padding: bool = False
    """Whether a mean counts the padding as pixels of value 0; else it leaves them out."""


class Slice(Node, frozen=True, eq=False, kw_only=True):
    """Every ``step``-th element of each axis from ``begin`` on, ``shape`` elements in all."""

    begin: tuple[int, ...]
    step: tuple[int, ...]


class Gather(Node, frozen=True, eq=False, kw_only=True):
    """The elements of ``axis`` at ``indices``, in their order."""

    axis: int
    indices: tuple[int, ...]


class Take(Node, frozen=True, eq=False, kw_only=True):
    """Rows of the first input ``[..., R, D]`` at places that the second computes, ``[..., K]``."""


class ScatterAdd(Node, frozen=True, eq=False, kw_only=True):
    """Rows ``[..., R, D]``, each the sum of those ``[..., K, D]`` at its place ``[..., K]``."""


class Expand(Node, frozen=True, eq=False, kw_only=True):
    """Repetition of the axes of size 1 to ``shape``."""


class Pad(Node, frozen=True, eq=False, kw_only=True):
    """Padding with a constant or, if ``value`` is None, by reflection without the edge."""

    sides: tuple[tuple[int, int], ...]
    """Number of elements before and after, for each axis."""
    value: float | None


class Resize(Node, frozen=True, eq=False, kw_only=True):
    """Resize of height and width, bilinear, or nearest by whole factors."""

    nearest: bool
    align_corners: bool


class Shuffle(Node, frozen=True, eq=False, kw_only=True):
    """Channel shuffle (Zhang et al., CVPR 2018, arXiv:1707.01083)."""

    groups: int


class Concat(Node, frozen=True, eq=False, kw_only=True):
    """Concatenation of all inputs, in order, along ``axis``."""

    axis: int = 1


class Constant(Node, frozen=True, eq=False, kw_only=True):
    """A constant; it has no inputs."""

    value: Array


class Reshape(Node, frozen=True, eq=False, kw_only=True):
    """Reshape that keeps the elements in PyTorch's order."""


class Transpose(Node, frozen=True, eq=False, kw_only=True):
    """Permutation of the axes: axis ``i`` of the output is axis ``order[i]`` of the input."""

    order: tuple[int, ...]


class Cast(Node, frozen=True, eq=False, kw_only=True):
    """Conversion of an integer input to float32, or of a value to integers."""

    dtype: DType = "float32"


class Lookup(Node, frozen=True, eq=False, kw_only=True):
    """Rows of a table at integer indices: ``[...]`` to ``[..., D]``."""

    weight: Array
    """``[rows, D]``"""


class Graph(msgspec.Struct, frozen=True, eq=False):
    """Nodes in an order of execution, between the inputs and the outputs of a model."""

    inputs: tuple[TensorSpec, ...]
    nodes: tuple[Node, ...]
    outputs: tuple[TensorSpec, ...]
    """Name, shape and type of each output, which are those of a node's output."""
