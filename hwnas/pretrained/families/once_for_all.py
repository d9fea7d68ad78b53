"""The largest networks of Once-for-all's supernets, and the networks of ProxylessNAS.

Cai, Gan, Wang, Zhang and Han, ICLR 2020, arXiv:1908.09791; Cai, Zhu and Han, ICLR 2019,
arXiv:1812.00332. Both name their modules alike. A supernet's file has the full kernels and widths,
which form the largest network, and matrices that turn large kernels into smaller ones.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path

import msgspec
import torch
from torch import Tensor

from hwnas.architecture.architecture import Architecture, Block, round_channels
from hwnas.pretrained.families.layout import (
    Chain,
    ModulePairs,
    Row,
    architecture,
    conv_norm,
    inverted_residuals,
)
from hwnas.pretrained.weights import check_keys
from hwnas.spaces.published import published

PROXYLESS_EPS = 1e-3
KERNEL, EXPAND = 7, 6
"""The largest of each in the supernets."""
SMALLER_KERNELS = (5, 3)
MATRIX = "_matrix"
CONV = "mobile_inverted_conv"


SUPERNETS = {"ofa_mbv3_w1.0": 1.0, "ofa_mbv3_w1.2": 1.2, "ofa_proxyless_w1.3": 1.3}
"""Factors of the widths."""


def largest_network(name: str, size: int) -> Architecture:
    """Return the largest network of a supernet."""
    make = _largest_mobilenet if "mbv3" in name else _largest_proxyless
    return architecture(make(SUPERNETS[name]), name, size)


def _largest_mobilenet(width_mult: float) -> Chain:

    def width(channels: int) -> int:
        return round_channels(channels * width_mult)

    rows = (
        Row(3, 1, 1, width(16), 1, "relu"),
        Row(KERNEL, 2, EXPAND, width(24), 4, "relu"),
        Row(KERNEL, 2, EXPAND, width(40), 4, "relu", squeeze_excite=True),
        Row(KERNEL, 2, EXPAND, width(80), 4, "hswish"),
        Row(KERNEL, 1, EXPAND, width(112), 4, "hswish", squeeze_excite=True),
        Row(KERNEL, 2, EXPAND, width(160), 4, "hswish", squeeze_excite=True),
    )
    stem, head, mix = width(16), width(960), width(1280)
    return Chain(stem, rows, head, norm_eps=1e-5, mix=mix, activation="hswish")


def _largest_proxyless(width_mult: float) -> Chain:
    widths, depths, strides = (24, 40, 80, 96, 192, 320), (4, 4, 4, 4, 4, 1), (2, 2, 2, 1, 2, 1)
    rows = (
        Row(3, 1, 1, round_channels(16 * width_mult), 1),
        *(
            Row(KERNEL, stride, EXPAND, round_channels(width * width_mult), depth)
            for width, depth, stride in zip(widths, depths, strides, strict=True)
        ),
    )
    stem, head = round_channels(32 * width_mult), round_channels(1280 * width_mult)
    return Chain(stem, rows, head, PROXYLESS_EPS)


def proxyless_network(name: str) -> Architecture:
    return msgspec.structs.replace(published(name).architecture, norm_eps=PROXYLESS_EPS)


def ofa_modules(network: Architecture) -> ModulePairs:
    """Return the module pairs for keys as `plain_keys` returns them."""
    blocks = network.blocks
    modules = _unit("blocks.0", "first_conv") | inverted_residuals(blocks, _pairs)
    if blocks[-2].op == "mix":
        modules |= _unit(f"blocks.{len(blocks) - 3}", "final_expand_layer")
        modules[f"blocks.{len(blocks) - 2}.conv"] = "feature_mix_layer.conv"
    else:
        modules |= _unit(f"blocks.{len(blocks) - 2}", "feature_mix_layer")
    return modules | {f"blocks.{len(blocks) - 1}.linear": "classifier.linear"}


def trained_slices(
    path: Path, plain: Mapping[str, Tensor], network: Architecture
) -> dict[int, dict[int, Tensor]]:
    """Return the blocks that a supernet trained at smaller kernels and widths, with its matrices.

    ``plain`` has the keys of `plain_keys`. A file of the largest network alone, without matrices,
    has none. Raises `WrongKeys` if some are missing or of another shape.
    """
    matrices = {key: value for key, value in plain.items() if key.endswith(MATRIX)}
    if not matrices:
        return {}
    places = [place for place, block in enumerate(network.blocks) if block.kernel_size == KERNEL]
    expected = {
        _matrix(place, size): torch.empty(size * size, size * size)
        for place in places
        for size in SMALLER_KERNELS
    }
    check_keys(path, matrices, expected)
    return {
        place: {size: matrices[_matrix(place, size)] for size in SMALLER_KERNELS}
        for place in places
    }


def _matrix(place: int, size: int) -> str:
    """Return the key of the matrix that gives a kernel of ``size`` to the block at ``place``."""
    return f"blocks.{place - 1}.{CONV}.depth_conv.conv.{size + 2}to{size}{MATRIX}"


def without_matrices(plain: Mapping[str, Tensor]) -> dict[str, Tensor]:
    return {key: value for key, value in plain.items() if not key.endswith(MATRIX)}


def plain_keys(weights: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Return the weights under the names of a single network's modules: newer code shortens the
    names, and supernets wrap their layers."""
    plain: dict[str, Tensor] = {}
    for key, value in weights.items():
        name = re.sub(r"^(blocks\.\d+|input_stem\.1)\.conv\.", rf"\1.{CONV}.", key)
        name = re.sub(r"\.(conv|bn|linear)\.\1\.", r".\1.", name)
        plain[name] = value
    return plain


def _pairs(number: int, block: Block) -> ModulePairs:
    prefix = f"blocks.{number}.{CONV}"
    expand = _unit("layers.expand", f"{prefix}.inverted_bottleneck")
    gate = {
        "layers.se.squeeze": f"{prefix}.depth_conv.se.fc.reduce",
        "layers.se.excite": f"{prefix}.depth_conv.se.fc.expand",
    }
    return (
        (expand if block.expand_ratio != 1 else {})
        | _unit("layers.depthwise", f"{prefix}.depth_conv")
        | (gate if block.squeeze_excite else {})
        | _unit("layers.project", f"{prefix}.point_linear")
    )


def _unit(ours: str, theirs: str) -> ModulePairs:
    return conv_norm(ours, f"{theirs}.conv", f"{theirs}.bn")
