"""The kinds of layers, and what they are called in networks."""

from __future__ import annotations

from typing import Literal, NamedTuple

from torch import nn

IMAGE = -1
"""The index that stands for the network's input."""

Kind = Literal[
    "conv", "norm", "act", "pool", "grid_pool", "max_pool", "avg_pool", "linear", "add", "mul",
    "concat", "first_half", "second_half", "chunk", "slice", "shuffle", "layer_norm",
    "response_norm", "scale", "times", "plus", "resize", "other",
]  # fmt: skip
"""``grid_pool``: an average pool to a number of pixels in height and width above 1.
``first_half``, ``second_half``, ``chunk``, ``slice``, ``shuffle``: of channels, the last in two
groups. ``scale``: a product with a parameter, which the path names. ``resize``: to the height and
width of the second input."""

ACTIVATIONS = {
    "relu": "relu",
    "relu6": "relu6",
    "hardswish": "hswish",
    "silu": "silu",
    "gelu": "gelu",
    "gelutanh": "gelu_tanh",
    "swish": "silu",
    "sigmoid": "sigmoid",
    "hardsigmoid": "hardsigmoid",
    "tanh": "tanh",
    "leakyrelu": "leaky_relu",
}
"""Our names of activations, by the names of classes, functions and methods in lower case."""

UNCHANGED = {"dropout", "dropout2d", "droppath", "identity", "stochasticdepth", "stochastic_depth"}
"""Layers that return their input in evaluation mode."""
RESPONSE_NORM = "globalresponsenorm"
SHUFFLE = "channel_shuffle"


class Layer(NamedTuple):
    """A layer and the indices of the layers whose outputs it takes."""

    kind: Kind
    path: str
    """Name of the module in the network, or of the function that is called."""
    inputs: tuple[int, ...]
    module: nn.Module | None = None
    activation: str = ""
    span: tuple[int, int] = (0, 0)
    """First channel and the one after the last (0: to the end) of a ``slice``; number and count of
    a ``chunk``; 0 and the number of elements of a ``scale``."""
    value: float = 0.0
    """Constant of ``times`` and ``plus``, slope of an activation."""
