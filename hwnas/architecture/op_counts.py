"""MACs and parameters of each operation of a `Block`.

MACs count convolutions and the linear layer (1 MAC = 2 FLOPs); batch norm, activations, pooling
and additions count nothing. Parameters: convolutions have no bias, batch norm has 2 a channel,
the linear layer and the squeeze-excite convolutions have a bias; ``mix`` has neither norm nor bias.
These are the counting rules of the published ProxylessNAS and Once-for-all figures.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol


class Sized(Protocol):
    """What the counts of a `Block` need of it."""

    @property
    def in_channels(self) -> int: ...
    @property
    def out_channels(self) -> int: ...
    @property
    def kernel_size(self) -> int: ...
    @property
    def in_size(self) -> int: ...
    @property
    def out_size(self) -> int: ...
    @property
    def mid_channels(self) -> int: ...
    @property
    def se_channels(self) -> int: ...
    @property
    def growth(self) -> int: ...
    @property
    def expand_ratio(self) -> float: ...
    @property
    def squeeze_excite(self) -> bool: ...


Count = Callable[[Sized], int]

GROUPS = 2
"""Of ``bn_relu_group_conv``."""


def _conv_macs(block: Sized) -> int:
    return block.out_size**2 * block.kernel_size**2 * block.in_channels * block.out_channels


def _se_macs(block: Sized) -> int:
    return 2 * block.mid_channels * block.se_channels if block.squeeze_excite else 0


def _mbconv_macs(block: Sized) -> int:
    mid = block.mid_channels
    expand = block.in_size**2 * block.in_channels * mid if block.expand_ratio != 1 else 0
    depthwise = block.out_size**2 * block.kernel_size**2 * mid
    return expand + depthwise + block.out_size**2 * mid * block.out_channels + _se_macs(block)


def _fused_macs(block: Sized) -> int:
    if block.expand_ratio == 1:
        return _conv_macs(block)
    mid = block.mid_channels
    dense = block.out_size**2 * block.kernel_size**2 * block.in_channels * mid
    return dense + block.out_size**2 * mid * block.out_channels


def _conv_params(block: Sized) -> int:
    weights = block.kernel_size**2 * block.in_channels * block.out_channels
    return weights + 2 * block.out_channels


def _se_params(block: Sized) -> int:
    mid, squeezed = block.mid_channels, block.se_channels
    return 2 * mid * squeezed + mid + squeezed if block.squeeze_excite else 0


def _mbconv_params(block: Sized) -> int:
    mid = block.mid_channels
    expand = block.in_channels * mid + 2 * mid if block.expand_ratio != 1 else 0
    depthwise = block.kernel_size**2 * mid + 2 * mid
    project = mid * block.out_channels + 2 * block.out_channels
    return expand + depthwise + project + _se_params(block)


def _fused_params(block: Sized) -> int:
    if block.expand_ratio == 1:
        return _conv_params(block)
    mid = block.mid_channels
    dense = block.kernel_size**2 * block.in_channels * mid + 2 * mid
    project = mid * block.out_channels + 2 * block.out_channels
    return dense + project


def _sep_conv_macs(block: Sized) -> int:
    weights = block.in_channels * (2 * block.kernel_size**2 + block.in_channels)
    return block.out_size**2 * (weights + block.in_channels * block.out_channels)


def _sep_conv_params(block: Sized) -> int:
    c_in, c_out = block.in_channels, block.out_channels
    return c_in * (2 * block.kernel_size**2 + c_in + c_out) + 2 * (c_in + c_out)


def _dil_conv_weights(block: Sized) -> int:
    return block.in_channels * (block.kernel_size**2 + block.out_channels)


def _dil_conv_macs(block: Sized) -> int:
    return block.out_size**2 * _dil_conv_weights(block)


def _bn_dil_conv_params(block: Sized) -> int:
    return _dil_conv_weights(block) + 2 * block.in_channels


def _conv_7x1_1x7_macs(block: Sized) -> int:
    """The 1x7 convolution strides over the width only, the 7x1 then over the height."""
    pixels = (block.in_size + block.out_size) * block.out_size
    return pixels * 7 * block.in_channels * block.out_channels


def _dense_layer_weights(block: Sized) -> int:
    mid = block.mid_channels
    return mid * (block.in_channels + block.kernel_size**2 * block.growth)


def _dense_layer_params(block: Sized) -> int:
    return _dense_layer_weights(block) + 2 * (block.in_channels + block.mid_channels)


def _pointwise(block: Sized) -> int:
    """MACs at one pixel, and the weights, of a convolution 1x1 without anything else."""
    return block.in_channels * block.out_channels


def _logits_params(block: Sized) -> int:
    return (block.in_channels + 1) * block.out_channels


def _norm_params(block: Sized) -> int:
    return 2 * block.out_channels


def _bn_conv_params(block: Sized) -> int:
    return _conv_params(block) - _norm_params(block) + 2 * block.in_channels


def _group_conv_params(block: Sized) -> int:
    return _conv_macs(block) // block.out_size**2 // GROUPS + 2 * block.in_channels


def _nothing(block: Sized) -> int:
    return 0


_WITHOUT_WEIGHTS = (
    "max_pool", "avg_pool", "global_pool", "none", "add", "concat", "first_half", "second_half",
    "pad_channels",
)  # fmt: skip
_WITH_NORM_ONLY = ("max_pool_bn", "avg_pool_bn", "identity_bn")
COUNTS: dict[str, tuple[Count, Count]] = {
    "conv": (_conv_macs, _conv_params),
    "mbconv": (_mbconv_macs, _mbconv_params),
    "fused_mbconv": (_fused_macs, _fused_params),
    "identity": (_nothing, _nothing),
    "mix": (_pointwise, _pointwise),
    "logits": (_pointwise, _logits_params),
    "conv_bn": (_conv_macs, _conv_params),
    "relu_conv_bn": (_conv_macs, _conv_params),
    "factorized_reduce": (_conv_macs, _conv_params),
    "sep_conv": (_sep_conv_macs, _sep_conv_params),
    "dil_conv": (_dil_conv_macs, lambda block: _dil_conv_weights(block) + _norm_params(block)),
    "conv_7x1_1x7": (
        _conv_7x1_1x7_macs,
        lambda block: 14 * _pointwise(block) + _norm_params(block),
    ),
    "bare_conv": (_conv_macs, lambda block: _conv_params(block) - _norm_params(block)),
    "dense_layer": (
        lambda block: block.in_size**2 * _dense_layer_weights(block),
        _dense_layer_params,
    ),
    "transition": (
        lambda block: block.in_size**2 * _pointwise(block),
        lambda block: block.in_channels * (2 + block.out_channels),
    ),
    "norm_logits": (_pointwise, lambda block: 2 * block.in_channels + _logits_params(block)),
    "bn_conv": (_conv_macs, _bn_conv_params),
    "bn_relu_conv_bn": (_conv_macs, lambda block: _conv_params(block) + 2 * block.in_channels),
    "bn_relu_group_conv": (lambda block: _conv_macs(block) // GROUPS, _group_conv_params),
    "bn_relu_sep_conv": (_dil_conv_macs, _bn_dil_conv_params),
    "bn_relu_dil_conv": (_dil_conv_macs, _bn_dil_conv_params),
    **dict.fromkeys(_WITHOUT_WEIGHTS, (_nothing, _nothing)),
    **dict.fromkeys(_WITH_NORM_ONLY, (_nothing, _norm_params)),
}
"""MACs and parameters of each operation."""
