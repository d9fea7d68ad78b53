"""The lowering of each operation, by its name in `hwnas.export.graph.ops.OPS`."""

from __future__ import annotations

from hwnas.export.lowering import conv, elementwise, layout, norm, spatial
from hwnas.export.lowering.lowering import Lower

LOWER: dict[str, Lower] = {
    "conv2d": conv.conv,
    "conv_transpose2d": conv.conv_transpose,
    "batchnorm": norm.batch_norm,
    "layer_norm": norm.layer_norm,
    "linear": conv.linear,
    "relu": elementwise.fusible,
    "relu6": elementwise.fusible,
    **dict.fromkeys(
        ("hardswish", "hardsigmoid", "sigmoid", "tanh", "exp", "sqrt", "abs", "neg"),
        elementwise.activation,
    ),
    "silu": elementwise.silu,
    "mish": elementwise.mish,
    "softplus": elementwise.softplus,
    "gelu": elementwise.gelu,
    "elu": elementwise.elu,
    "leaky_relu": elementwise.leaky_relu,
    "prelu": elementwise.prelu,
    "clamp": elementwise.clamp,
    "softmax": elementwise.softmax,
    "log_softmax": elementwise.softmax,
    **dict.fromkeys(("add", "sub", "mul", "div", "minimum", "maximum"), elementwise.arithmetic),
    "adaptive_avg_pool2d": spatial.adaptive_pool,
    "mean": spatial.mean,
    "reshape": layout.reshape,
    "permute": layout.permute,
    "transpose": layout.transpose,
    "channel_shuffle": layout.channel_shuffle,
    "dropout": elementwise.dropout,
    "identity": elementwise.identity,
    "max_pool2d": spatial.window_pool,
    "avg_pool2d": spatial.window_pool,
    "pad": spatial.pad,
    "resize": spatial.resize,
    "getitem": layout.getitem,
    "chunk": layout.chunk,
    "cat": spatial.concat,
    "zeros": spatial.zeros,
}
"""Functions that take the lowering, the traced node and the module that it calls, if any."""
