"""The table of operations: all that the package knows about what a block computes.

To add an operation, add a row to `OPS`, its module to `hwnas.nn.blocks.table.MODULES`, and, where
the compiler does not know a layer of it, its lowering to `hwnas.export.lowering`.
"""

from __future__ import annotations

from typing import Literal, NamedTuple

from hwnas.architecture.layers import (
    Layer,
    add,
    bare_conv,
    bare_separable,
    conv,
    conv_7x1_1x7,
    conv_with_bias,
    convnext,
    data_copy,
    dense_bottleneck,
    depthwise_separable,
    dil_conv,
    double_conv,
    first_norm,
    fused_mbconv,
    global_pool,
    group_conv,
    half_convs,
    linear,
    mbconv,
    narrowing,
    norm,
    piece,
    pointwise,
    pool,
    pool_outputs,
    pool_to_grid,
    pool_to_pixel,
    relu,
    sep_conv,
    shortcut,
    shuffle_unit,
    uib,
)
from hwnas.architecture.residual_layers import (
    bare_bottleneck,
    basic,
    bottleneck,
    output_gate,
    pooled_sum,
    residual_sum,
)


class Op(NamedTuple):
    """The properties of an operation that do not depend on its shapes."""

    label: str
    """Name in the legend of a drawing."""
    layers: tuple[Layer, ...]
    """Its layers in order; MACs, parameters and kernels of a block follow from them."""
    has_shortcut: bool = False
    """Adds its input to its output where both have the same shape, see `Block.residual`."""
    pools_globally: bool = False
    """Pools the feature map to a single pixel."""
    gives_logits: bool = False
    """Ends a network: its output channels are the classes."""
    joins_inputs: bool = False
    """Takes several inputs, each of ``in_channels``."""
    appends_channels: bool = False
    """Returns its input followed by `Block.growth` new channels."""
    can_pad_same: bool = False
    """Computes blocks with the padding ``same``."""
    can_pad_pixels: bool = False
    """Computes blocks whose padding is a number of pixels."""
    can_gate: bool = False
    """Computes blocks with squeeze-excite."""
    gates_output: bool = False
    """Its squeeze-excite scales the channels of the output, before the sum, not the inner ones."""
    can_group: bool = False
    """Computes blocks whose kxk convolution has groups."""
    pools_shortcut: bool = False
    """Averages its input over 2x2 pixels for the sum with its output."""
    has_depthwise: bool = False
    """Has a depthwise convolution in layers of its own, whose kernel can be made smaller."""
    inner_channels: Literal["", "expanded", "always"] = ""
    """Whether layers make channels that no other block sees; ``expanded``: with an expansion ratio
    of 1 none does."""


OPS: dict[str, Op] = {
    # mobile networks
    "conv": Op("convolution", (conv,), can_pad_same=True, can_pad_pixels=True),
    # VGG: the first has the stride, both have the activation
    "double_conv": Op("two convolutions", (double_conv,), inner_channels="always"),
    "mbconv": Op(
        "MBConv (expand, depthwise, project)",
        (mbconv, shortcut),
        has_shortcut=True,
        can_pad_same=True,
        can_gate=True,
        has_depthwise=True,
        inner_channels="expanded",
    ),
    "fused_mbconv": Op(
        "fused MBConv",
        (fused_mbconv, shortcut),
        has_shortcut=True,
        can_pad_same=True,
        inner_channels="expanded",
    ),
    "depthwise_separable": Op(
        "depthwise separable convolution",
        (depthwise_separable,),
        can_pad_same=True,
        can_gate=True,
        has_depthwise=True,
    ),
    "uib": Op(
        "universal inverted bottleneck",
        (uib, shortcut),
        has_shortcut=True,
        can_gate=True,
        has_depthwise=True,
        inner_channels="always",
    ),
    # concatenates two branches and shuffles their channels
    "shuffle_unit": Op(
        "unit of ShuffleNet", (shuffle_unit, data_copy, data_copy), inner_channels="always"
    ),
    "identity": Op("skip", ()),
    # ResNet; ResNeXt and RegNet
    "basic": Op(
        "basic residual block", (basic, residual_sum), has_shortcut=True, inner_channels="always"
    ),
    "bottleneck": Op(
        "bottleneck (1x1, kxk, 1x1)",
        (bottleneck, residual_sum),
        has_shortcut=True,
        can_gate=True,
        can_group=True,
        inner_channels="always",
    ),
    # downsampling ones of ResNet-D
    "basic_d": Op(
        "basic residual block, pooled shortcut",
        (basic, pooled_sum),
        pools_shortcut=True,
        inner_channels="always",
    ),
    "bottleneck_d": Op(
        "bottleneck, pooled shortcut",
        (bottleneck, pooled_sum),
        can_gate=True,
        can_group=True,
        pools_shortcut=True,
        inner_channels="always",
    ),
    # SENet
    "basic_se": Op(
        "basic residual block, squeeze-excite last",
        (basic, output_gate, residual_sum),
        has_shortcut=True,
        can_gate=True,
        gates_output=True,
        inner_channels="always",
    ),
    "bottleneck_se": Op(
        "bottleneck, squeeze-excite last",
        (bare_bottleneck, output_gate, residual_sum),
        has_shortcut=True,
        can_gate=True,
        gates_output=True,
        can_group=True,
        inner_channels="always",
    ),
    "basic_se_d": Op(
        "basic residual block, squeeze-excite last, pooled shortcut",
        (basic, output_gate, pooled_sum),
        can_gate=True,
        gates_output=True,
        pools_shortcut=True,
        inner_channels="always",
    ),
    "bottleneck_se_d": Op(
        "bottleneck, squeeze-excite last, pooled shortcut",
        (bare_bottleneck, output_gate, pooled_sum),
        can_gate=True,
        gates_output=True,
        can_group=True,
        pools_shortcut=True,
        inner_channels="always",
    ),
    # ConvNeXt, with an expansion of 1x1 behind a layer norm of the channels of each pixel
    "convnext": Op(
        "ConvNeXt (depthwise, norm, expand, project)",
        (convnext, shortcut),
        has_shortcut=True,
        has_depthwise=True,
        inner_channels="always",
    ),
    "layer_norm": Op("layer norm", (norm,)),
    # what is no other operation, as a graph of layers, see `Block.piece`
    "piece": Op("fixed piece", (piece,)),
    # before the classifier of MobileNetV3: of Once-for-all, and with a bias of torchvision; VGG's
    # hidden layer takes all pixels of a grid, whose height and width are the kernel size
    "mix": Op("pool and 1x1 convolution", (pool_to_pixel, pointwise), pools_globally=True),
    "hidden": Op("pool and hidden linear layer", (pool_to_grid, linear), pools_globally=True),
    "logits": Op(
        "pool and linear", (pool_to_pixel, linear), pools_globally=True, gives_logits=True
    ),
    # SqueezeNet
    "conv_logits": Op(
        "1x1 convolution and pool",
        (conv_with_bias, pool_outputs),
        pools_globally=True,
        gives_logits=True,
    ),
    # cells of DARTS: ReLU comes first; `none` is zeros in the shape of the output
    "conv_bn": Op("convolution", (conv,), can_pad_pixels=True),
    "relu_conv_bn": Op("ReLU, convolution", (relu, conv)),
    # the skip with stride 2, also between cells of different size
    "factorized_reduce": Op("ReLU, two shifted 1x1 convolutions", (relu, half_convs, data_copy)),
    "sep_conv": Op("separable convolution, twice", (relu, sep_conv)),
    "dil_conv": Op("separable convolution with dilation 2", (relu, dil_conv)),
    "conv_7x1_1x7": Op("ReLU, 1x7 and 7x1 convolution", (relu, conv_7x1_1x7)),
    "max_pool": Op("max pool", (pool,), can_pad_same=True, can_pad_pixels=True),
    "avg_pool": Op("average pool", (pool,)),
    "max_pool_bn": Op("max pool, norm", (pool, norm)),
    "avg_pool_bn": Op("average pool, norm", (pool, norm)),
    "identity_bn": Op("norm only", (norm,)),
    "none": Op("zeros", ()),
    "add": Op("add", (add,), joins_inputs=True),
    "concat": Op("concatenate", (data_copy,), joins_inputs=True),
    # plain and densely connected networks
    "bare_conv": Op("convolution only", (bare_conv,)),
    "dense_layer": Op(
        "dense layer (concatenates its input)",
        (first_norm, relu, dense_bottleneck, data_copy),
        appends_channels=True,
    ),
    "transition": Op(
        "transition (1x1 convolution, pool)",
        (first_norm, relu, narrowing, pool),
    ),
    "global_pool": Op("global pool", (global_pool,), pools_globally=True),
    "norm_logits": Op(
        "norm, pool and linear",
        (first_norm, relu, pool_to_pixel, linear),
        pools_globally=True,
        gives_logits=True,
    ),
    # cells of trees (`hwnas.spaces.tree.space`): the name lists the layers in order
    "bn_conv": Op("norm, convolution", (first_norm, bare_conv)),
    "bn_relu_conv_bn": Op("norm, convolution, norm", (first_norm, relu, conv)),
    # a shuffle of the groups' channels comes last
    "bn_relu_group_conv": Op(
        "norm, group convolution",
        (first_norm, relu, group_conv, data_copy),
    ),
    "bn_relu_sep_conv": Op("norm, separable convolution", (first_norm, relu, bare_separable)),
    "bn_relu_dil_conv": Op(
        "norm, separable convolution with dilation 2",
        (first_norm, relu, bare_separable),
    ),
    "first_half": Op("first half of the channels", (data_copy,)),
    "second_half": Op("second half of the channels", (data_copy,)),
    "pad_channels": Op("zero channels appended", (data_copy,)),
}
"""All operations by name, the values of `Block.op`."""
