"""The operators that a runtime starts for a block, and what each of them takes."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

from hwnas.architecture.block import Block
from hwnas.architecture.op_counts import GROUPS
from hwnas.errors import UsageError

WIDE_KERNEL = 7
"""Some runtimes have fast depthwise kernels up to 5x5 only: LiteRT's 7x7 takes 26 times as long."""


class Part(NamedTuple):
    """One operator: multiply-accumulates, elements of feature maps moved, weights read."""

    dense_macs: float = 0.0
    depthwise_macs: float = 0.0
    wide_depthwise_macs: float = 0.0
    """Of depthwise convolutions with kernels of `WIDE_KERNEL` and more."""
    elements: float = 0.0
    weights: float = 0.0
    window_elements: float = 0.0
    """Elements that pooling windows look at."""
    gate_elements: float = 0.0
    """Elements that squeeze-excite reads or scales."""
    hswish_elements: float = 0.0


def parts_of(block: Block) -> list[Part]:
    """Return the operators of a block. Raises `UsageError` for an operation not known here."""
    if block.op not in _PARTS:
        raise UsageError(
            f"block {block.key!r}: nothing is known of operation {block.op!r}; known: "
            f"{', '.join(sorted(_PARTS))}"
        )
    return _PARTS[block.op](block)


def _dense(block: Block, c_in: int, c_out: int, kernel: int, stride: int, size: int) -> Part:
    out = (size - 1) // stride + 1
    weights = kernel**2 * c_in * c_out
    moved, made = size**2 * c_in + out**2 * c_out, out**2 * c_out
    return Part(out**2 * weights, elements=moved, weights=weights)._replace(
        hswish_elements=made if block.activation == "hswish" else 0.0
    )


def _depthwise(block: Block, channels: int, stride: int, size: int) -> Part:
    out, taps = (size - 1) // stride + 1, block.kernel_size**2 * channels
    macs, wide = out**2 * taps, block.kernel_size >= WIDE_KERNEL
    return Part(
        depthwise_macs=0.0 if wide else macs,
        wide_depthwise_macs=macs if wide else 0.0,
        elements=(size**2 + out**2) * channels,
        weights=taps,
        hswish_elements=out**2 * channels if block.activation == "hswish" else 0.0,
    )


def _plain(part: Part) -> Part:
    """Return an operator that no activation follows."""
    return part._replace(hswish_elements=0.0)


def _conv(block: Block) -> list[Part]:
    c_in, c_out = block.in_channels, block.out_channels
    return [_dense(block, c_in, c_out, block.kernel_size, block.stride, block.in_size)]


def _mbconv(block: Block) -> list[Part]:
    size, out, mid = block.in_size, block.out_size, block.mid_channels
    parts: list[Part] = []
    if block.expand_ratio != 1:
        parts.append(_dense(block, block.in_channels, mid, 1, 1, size))
    parts.append(_depthwise(block, mid, block.stride, size))
    if block.squeeze_excite:
        weights, gated = mid * block.se_channels, out**2 * mid
        parts += [
            Part(elements=gated, gate_elements=gated),
            Part(weights, weights=weights),
            Part(weights, weights=weights),
            Part(elements=2 * gated, gate_elements=gated),
        ]
    parts.append(_plain(_dense(block, mid, block.out_channels, 1, 1, out)))
    return [*parts, *_residual(block)]


def _fused(block: Block) -> list[Part]:
    if block.expand_ratio == 1:
        return [*_conv(block), *_residual(block)]
    mid, kernel = block.mid_channels, block.kernel_size
    return [
        _dense(block, block.in_channels, mid, kernel, block.stride, block.in_size),
        _plain(_dense(block, mid, block.out_channels, 1, 1, block.out_size)),
        *_residual(block),
    ]


def _residual(block: Block) -> list[Part]:
    return [Part(elements=3 * block.out_size**2 * block.out_channels)] if block.residual else []


def _logits(block: Block) -> list[Part]:
    pooled = [Part(elements=block.in_size**2 * block.in_channels)] if block.in_size > 1 else []
    return [*pooled, _dense(block, block.in_channels, block.out_channels, 1, 1, 1)]


def _relu(block: Block) -> Part:
    """An activation of its own, as before a cell's convolutions."""
    return Part(elements=2 * block.in_size**2 * block.in_channels)


def _sep_conv(block: Block) -> list[Part]:
    c_in, c_out, out = block.in_channels, block.out_channels, block.out_size
    return [
        _relu(block),
        _depthwise(block, c_in, block.stride, block.in_size),
        _dense(block, c_in, c_in, 1, 1, out),
        _depthwise(block, c_in, 1, out),
        _dense(block, c_in, c_out, 1, 1, out),
    ]


def _dil_conv(block: Block) -> list[Part]:
    c_in, c_out, out = block.in_channels, block.out_channels, block.out_size
    depthwise = _depthwise(block, c_in, block.stride, block.in_size)
    return [_relu(block), depthwise, _dense(block, c_in, c_out, 1, 1, out)]


def _long_convs(block: Block) -> list[Part]:
    c_in, c_out, size, out = block.in_channels, block.out_channels, block.in_size, block.out_size
    weights = 7 * c_in * c_out
    return [
        _relu(block),
        Part(size * out * weights, elements=size * (size + out) * c_in, weights=weights),
        Part(out**2 * weights, elements=out * (size * c_in + out * c_out), weights=weights),
    ]


def _factorized_reduce(block: Block) -> list[Part]:
    half = block.out_channels // 2
    part = _dense(block, block.in_channels, half, 1, block.stride, block.in_size)
    joined = 2 * block.out_size**2 * block.out_channels
    return [_relu(block), part, part, Part(elements=joined)]


def _pool(block: Block) -> list[Part]:
    made = block.out_size**2 * block.out_channels
    moved = block.in_size**2 * block.in_channels + made
    return [Part(elements=moved, window_elements=made * block.kernel_size**2)]


def _norm(block: Block) -> Part:
    return Part(elements=2 * block.out_size**2 * block.out_channels)


def _add(block: Block) -> list[Part]:
    made = block.out_size**2 * block.out_channels
    return [Part(elements=3 * made)] * (block.arity - 1)


def _concat(block: Block) -> list[Part]:
    return [Part(elements=2 * block.out_size**2 * block.out_channels)]


def _global_pool(block: Block) -> list[Part]:
    return [Part(elements=block.in_size**2 * block.in_channels)]


def _norm_relu(block: Block) -> list[Part]:
    """A batch norm that folds into nothing, and its ReLU, both on the input."""
    part = Part(elements=2 * block.in_size**2 * block.in_channels)
    return [part, part]


def _dense_layer(block: Block) -> list[Part]:
    mid, size = block.mid_channels, block.in_size
    return [
        *_norm_relu(block),
        _dense(block, block.in_channels, mid, 1, 1, size),
        _dense(block, mid, block.growth, block.kernel_size, 1, size),
        *_concat(block),
    ]


def _transition(block: Block) -> list[Part]:
    c_out, size = block.out_channels, block.in_size
    made = block.out_size**2 * c_out
    pool = Part(elements=size**2 * c_out + made, window_elements=made * block.kernel_size**2)
    return [*_norm_relu(block), _dense(block, block.in_channels, c_out, 1, 1, size), pool]


def _bn_relu_depthwise(block: Block) -> list[Part]:
    c_in, c_out, out = block.in_channels, block.out_channels, block.out_size
    depthwise = _depthwise(block, c_in, block.stride, block.in_size)
    return [*_norm_relu(block), depthwise, _dense(block, c_in, c_out, 1, 1, out)]


def _group_conv(block: Block) -> list[Part]:
    """Half of the weights of a dense one, and the shuffle."""
    [dense] = _conv(block)
    half = dense._replace(dense_macs=dense.dense_macs / GROUPS, weights=dense.weights / GROUPS)
    return [*_norm_relu(block), half, *_concat(block)]


def _nothing(block: Block) -> list[Part]:
    return []


_PARTS: dict[str, Callable[[Block], list[Part]]] = {
    "conv": _conv,
    "mbconv": _mbconv,
    "fused_mbconv": _fused,
    "mix": _logits,
    "logits": _logits,
    "identity": _nothing,
    "none": _nothing,
    "conv_bn": _conv,
    "relu_conv_bn": lambda block: [_relu(block), *_conv(block)],
    "factorized_reduce": _factorized_reduce,
    "sep_conv": _sep_conv,
    "dil_conv": _dil_conv,
    "conv_7x1_1x7": _long_convs,
    "max_pool": _pool,
    "avg_pool": _pool,
    "max_pool_bn": lambda block: [*_pool(block), _norm(block)],
    "avg_pool_bn": lambda block: [*_pool(block), _norm(block)],
    "identity_bn": lambda block: [_norm(block)],
    "global_pool": _global_pool,
    "bare_conv": _conv,
    "dense_layer": _dense_layer,
    "transition": _transition,
    "norm_logits": lambda block: [*_norm_relu(block), *_logits(block)],
    "add": _add,
    "concat": _concat,
    "bn_conv": lambda block: [*_norm_relu(block)[1:], *_conv(block)],
    "bn_relu_conv_bn": lambda block: [*_norm_relu(block), *_conv(block)],
    "bn_relu_group_conv": _group_conv,
    "bn_relu_sep_conv": _bn_relu_depthwise,
    "bn_relu_dil_conv": _bn_relu_depthwise,
    "first_half": _concat,
    "second_half": _concat,
    "pad_channels": _concat,
}
