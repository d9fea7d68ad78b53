"""The module of every operation."""

from __future__ import annotations

from collections.abc import Callable

from torch import nn

from hwnas.architecture.architecture import OPS, Block
from hwnas.errors import UnknownName, UsageError
from hwnas.nn.blocks.convnext import ChannelNorm, ConvNeXtBlock
from hwnas.nn.blocks.dense import BareConv, DenseLayer, Transition
from hwnas.nn.blocks.ends import ConvLogits, Hidden, Logits, Mix, NormLogits
from hwnas.nn.blocks.layers import conv_norm
from hwnas.nn.blocks.mobile import DepthwiseSeparable, FusedMBConv, MBConv, ShuffleUnit
from hwnas.nn.blocks.piece import Piece
from hwnas.nn.blocks.plain import DoubleConv
from hwnas.nn.blocks.residual import ResidualBlock
from hwnas.nn.blocks.tree import TREE_OPS, tree_op
from hwnas.nn.cells.ops import CELL_OPS, cell_op

Branched = MBConv | FusedMBConv | ResidualBlock | ConvNeXtBlock
"""Modules that may add their input to the output of their layers."""
MODULES: dict[str, Callable[[Block], nn.Module]] = {
    "conv": lambda block: conv_norm(block, block.out_channels),
    "double_conv": DoubleConv,
    **dict.fromkeys(("mbconv", "uib"), MBConv),
    "depthwise_separable": DepthwiseSeparable,
    "shuffle_unit": ShuffleUnit,
    "fused_mbconv": FusedMBConv,
    **dict.fromkeys(("basic", "basic_d", "basic_se", "basic_se_d"), ResidualBlock),
    **dict.fromkeys(
        ("bottleneck", "bottleneck_d", "bottleneck_se", "bottleneck_se_d"), ResidualBlock
    ),
    "convnext": ConvNeXtBlock,
    "layer_norm": lambda block: ChannelNorm(block.in_channels),
    "piece": Piece,
    "mix": Mix,
    "hidden": Hidden,
    "logits": Logits,
    "conv_logits": ConvLogits,
    "norm_logits": NormLogits,
    "global_pool": lambda block: nn.AdaptiveAvgPool2d(1),
    "bare_conv": BareConv,
    "dense_layer": DenseLayer,
    "transition": Transition,
    **dict.fromkeys(CELL_OPS, cell_op),
    **dict.fromkeys(TREE_OPS, tree_op),
}
"""The module of every operation in `hwnas.architecture.ops.OPS`."""


def block_module(block: Block) -> nn.Module:
    """Return the module that computes ``block``, with PyTorch's initial weights."""
    if block.op not in MODULES:
        raise UnknownName("operation", block.op, MODULES)
    if block.padding == "same" and not block.spec.can_pad_same:
        known = ", ".join(op for op, row in OPS.items() if row.can_pad_same)
        raise UsageError(f"block {block.label}: padding 'same' is only supported for {known}")
    if isinstance(block.padding, int) and not block.spec.can_pad_pixels:
        known = ", ".join(op for op, row in OPS.items() if row.can_pad_pixels)
        raise UsageError(f"block {block.label}: padding in pixels is only supported for {known}")
    if block.group_width and (not block.spec.can_group or block.mid_channels % block.group_width):
        raise UsageError(
            f"block {block.label}: groups of {block.group_width} channels, expected a divisor of "
            f"the {block.mid_channels} inner channels of a bottleneck"
        )
    return MODULES[block.op](block)
