"""The lowering of each ATen operation that the compiler knows.

Keys are names without overload. An operation that is not here is replaced by those that PyTorch
decomposes it into, if these are here.
"""

from __future__ import annotations

from hwnas.export.lowering.lowering import Lower
from hwnas.export.lowering.ops import (
    activation,
    arithmetic,
    axes,
    bits,
    distances,
    functions,
    linear,
    norm,
    order,
    pieces,
    reduce,
)
from hwnas.export.lowering.ops.indices import reads, writes
from hwnas.export.lowering.ops.maps import conv, pad, pool, resize, volumes

LOWER: dict[str, Lower] = {
    # layers with weights
    **dict.fromkeys(("conv1d", "conv2d"), conv.conv),
    **dict.fromkeys(("conv_transpose1d", "conv_transpose2d"), conv.conv_transpose),
    "conv3d": volumes.conv3d,
    "conv_transpose3d": volumes.conv_transpose3d,
    **dict.fromkeys(("convolution", "_convolution"), conv.convolution),
    "im2col": conv.unfold,
    "col2im": conv.fold,
    "linear": linear.linear,
    "addmm": linear.addmm,
    **dict.fromkeys(("mm", "bmm", "matmul"), linear.matmul),
    "bilinear": linear.bilinear,
    "scaled_dot_product_attention": linear.attention,
    # norms
    "batch_norm": norm.batch_norm,
    "instance_norm": norm.instance_norm,
    "group_norm": norm.group_norm,
    "layer_norm": norm.layer_norm,
    "rms_norm": norm.rms_norm,
    # functions of each element
    "relu": activation.fusible,
    "relu6": activation.relu6,
    **dict.fromkeys(("clamp", "hardtanh", "clamp_min", "clamp_max"), activation.clamp),
    **{
        op: activation.unary(op)
        for op in (
            *("hardswish", "hardsigmoid", "sigmoid", "tanh", "exp", "log", "sqrt", "abs"),
            *("sin", "cos", "floor", "ceil", "round"),
        )
    },
    "silu": activation.silu,
    "mish": activation.mish,
    "softplus": activation.softplus,
    "log_sigmoid": activation.log_sigmoid,
    "gelu": activation.gelu,
    "elu": activation.elu,
    "selu": activation.selu,
    "celu": activation.celu,
    "leaky_relu": activation.leaky_relu,
    "rrelu": activation.rrelu,
    "prelu": activation.prelu,
    "threshold": activation.threshold,
    "hardshrink": activation.hardshrink,
    "softshrink": activation.softshrink,
    "reciprocal": activation.reciprocal,
    "rsqrt": activation.rsqrt,
    "sign": activation.sign,
    "log1p": activation.log1p,
    "exp2": activation.scaled_exp(2),
    "log2": activation.scaled_log(2),
    "log10": activation.scaled_log(10),
    "sinh": activation.hyperbolic("sub"),
    "cosh": activation.hyperbolic("add"),
    "expm1": activation.expm1,
    "erf": activation.erf,
    **dict.fromkeys(("softmax", "_softmax", "log_softmax", "_log_softmax"), activation.softmax),
    **functions.FUNCTIONS,
    # arithmetic
    **dict.fromkeys(
        ("add", "sub", "rsub", "mul", "div", "minimum", "maximum"), arithmetic.arithmetic
    ),
    "pow": arithmetic.power,
    "square": arithmetic.square,
    "neg": arithmetic.negative,
    **dict.fromkeys(("gt", "ge", "lt", "le", "eq", "ne"), arithmetic.comparison),
    "where": arithmetic.where,
    "masked_fill": arithmetic.masked_fill,
    **dict.fromkeys(
        (
            *("logical_and", "logical_or", "logical_not"),
            *("bitwise_and", "bitwise_or", "bitwise_not", "__and__", "__or__"),
            *("logical_xor", "bitwise_xor", "__xor__"),
        ),
        arithmetic.logical,
    ),
    **dict.fromkeys(
        (*("__lshift__", "bitwise_left_shift", "__rshift__", "bitwise_right_shift"),),
        bits.shift,
    ),
    "remainder": arithmetic.remainder,
    "lerp": arithmetic.lerp,
    # reductions
    "mean": reduce.mean,
    "sum": reduce.total,
    "prod": reduce.product,
    **dict.fromkeys(("amax", "amin", "max", "min"), reduce.extreme),
    **dict.fromkeys(("argmax", "argmin"), reduce.arg_extreme),
    **dict.fromkeys(("var", "std", "var_mean", "std_mean"), reduce.variance),
    **dict.fromkeys(("norm", "linalg_vector_norm"), reduce.norm),
    "logsumexp": reduce.logsumexp,
    **dict.fromkeys(("_cdist_forward", "cdist"), distances.cdist),
    **dict.fromkeys(("_pdist_forward", "pdist"), distances.pdist),
    # order statistics, running sums
    **dict.fromkeys(("topk", "sort", "argsort"), order.top),
    **dict.fromkeys(("median", "kthvalue"), order.median),
    "quantile": order.quantile,
    "searchsorted": order.searchsorted,
    "cumsum": order.cumsum,
    **dict.fromkeys(("cummax", "cummin"), order.running_extreme),
    "logcumsumexp": order.logcumsumexp,
    # feature maps
    **dict.fromkeys(("max_pool1d", "max_pool2d", "max_pool2d_with_indices"), pool.max_pool),
    **dict.fromkeys(("avg_pool1d", "avg_pool2d"), pool.avg_pool),
    **dict.fromkeys(("max_pool3d", "max_pool3d_with_indices"), volumes.max_pool3d),
    "avg_pool3d": volumes.avg_pool3d,
    **dict.fromkeys(
        ("adaptive_avg_pool1d", "adaptive_avg_pool2d", "_adaptive_avg_pool2d"),
        pool.adaptive_avg_pool,
    ),
    **dict.fromkeys(("adaptive_max_pool1d", "adaptive_max_pool2d"), pool.adaptive_max_pool),
    **dict.fromkeys(("adaptive_avg_pool3d", "_adaptive_avg_pool3d"), volumes.adaptive_avg_pool3d),
    "adaptive_max_pool3d": volumes.adaptive_max_pool3d,
    **dict.fromkeys(
        (
            *("upsample_nearest1d", "upsample_nearest2d"),
            *("_upsample_nearest_exact1d", "_upsample_nearest_exact2d"),
        ),
        resize.nearest,
    ),
    **dict.fromkeys(
        (
            *("upsample_linear1d", "upsample_bilinear2d", "upsample_bicubic2d"),
            *("_upsample_bilinear2d_aa", "_upsample_bicubic2d_aa"),
        ),
        resize.smooth,
    ),
    **dict.fromkeys(("grid_sampler", "grid_sampler_2d"), resize.grid_sample),
    **dict.fromkeys(
        (
            *("pad", "constant_pad_nd", "reflection_pad1d", "reflection_pad2d"),
            *("replication_pad1d", "replication_pad2d"),
        ),
        pad.pad,
    ),
    # axes
    **dict.fromkeys(
        (*("view", "reshape", "_unsafe_view", "flatten", "unflatten", "squeeze", "unsqueeze"),),
        axes.reshape,
    ),
    "permute": axes.permute,
    **dict.fromkeys(("transpose", "t"), axes.transpose),
    "channel_shuffle": axes.channel_shuffle,
    "pixel_shuffle": axes.pixel_shuffle,
    "pixel_unshuffle": axes.pixel_unshuffle,
    "expand": axes.expand,
    "repeat": axes.repeat,
    "repeat_interleave": axes.repeat_interleave,
    "diagonal": axes.diagonal,
    **dict.fromkeys(("contiguous", "clone", "detach", "alias", "lift_fresh"), axes.identity),
    **dict.fromkeys(("dropout", "feature_dropout", "alpha_dropout"), axes.dropout),
    **dict.fromkeys(("to", "_to_copy"), axes.cast),
    # pieces
    "slice": pieces.slice_,
    "select": pieces.select,
    "narrow": pieces.narrow,
    **dict.fromkeys(
        ("split", "split_with_sizes", "chunk", "tensor_split", "unbind", "unsafe_split"),
        pieces.split,
    ),
    "cat": pieces.concat,
    "stack": pieces.stack,
    "flip": pieces.flip,
    "roll": pieces.roll,
    "unfold": pieces.unfold,
    # elements at indices
    "index": reads.index,
    "index_select": reads.index_select,
    "gather": reads.gather,
    "embedding": reads.embedding,
    **dict.fromkeys(("_embedding_bag", "_embedding_bag_forward_only"), reads.embedding_bag),
    **dict.fromkeys(("scatter", "scatter_add", "scatter_reduce"), writes.scatter),
    **dict.fromkeys(("index_put", "_unsafe_index_put"), writes.index_put),
    **dict.fromkeys(("index_add", "index_copy", "index_fill"), writes.index_add),
}
"""Functions that take the lowering under construction and the call."""
