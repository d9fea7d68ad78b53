"""How each of the compiler's operations becomes a node of its graph."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from torch import fx

from hwnas.export import conv_ops, layout_ops, map_ops, norms, value_ops

if TYPE_CHECKING:
    from hwnas.export.lowering import Lowering

LOWER: dict[str, Callable[[Lowering, fx.Node, Any], None]] = {
    "conv2d": conv_ops.conv,
    "conv_transpose2d": conv_ops.conv_transpose,
    "batchnorm": norms.batch_norm,
    "layer_norm": norms.layer_norm,
    "linear": conv_ops.linear,
    "relu": value_ops.fusible,
    "relu6": value_ops.fusible,
    **dict.fromkeys(
        ("hardswish", "hardsigmoid", "sigmoid", "tanh", "exp", "sqrt", "abs", "neg"),
        value_ops.activation,
    ),
    "silu": value_ops.silu,
    "mish": value_ops.mish,
    "softplus": value_ops.softplus,
    "gelu": value_ops.gelu,
    "elu": value_ops.elu,
    "leaky_relu": value_ops.leaky_relu,
    "prelu": value_ops.prelu,
    "clamp": value_ops.clamp,
    "softmax": value_ops.softmax,
    "log_softmax": value_ops.softmax,
    **dict.fromkeys(("add", "sub", "mul", "div", "minimum", "maximum"), value_ops.arithmetic),
    "adaptive_avg_pool2d": map_ops.adaptive_pool,
    "mean": map_ops.mean,
    "reshape": layout_ops.reshape,
    "permute": layout_ops.permute,
    "transpose": layout_ops.transpose,
    "channel_shuffle": layout_ops.channel_shuffle,
    "dropout": value_ops.dropout,
    "identity": value_ops.identity,
    "max_pool2d": map_ops.window_pool,
    "avg_pool2d": map_ops.window_pool,
    "pad": map_ops.pad,
    "resize": map_ops.resize,
    "getitem": layout_ops.getitem,
    "chunk": layout_ops.chunk,
    "cat": map_ops.concat,
    "zeros": map_ops.zeros,
}
"""Each takes the lowering, the traced node and, for a module, the module."""
