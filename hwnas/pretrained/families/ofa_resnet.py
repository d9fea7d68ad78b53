"""The largest network of Once-for-all's ResNet-50: ResNet-D whose stem has a residual convolution.

Cai, Gan, Wang, Zhang and Han, ICLR 2020, arXiv:1908.09791; ResNet-D: see
`hwnas.nn.blocks.residual`. The supernet also narrows the channels between its blocks, by slices of
all weights; its largest network uses the weights unchanged.
"""

from __future__ import annotations

from torch import Tensor

from hwnas.architecture.architecture import Architecture, Block, Genotype, round_channels
from hwnas.pretrained.families.layout import ModulePairs, conv_norm

RESNET = "ofa_resnet50"
STEM = 64
STAGES = ((256, 4, 1), (512, 4, 2), (1024, 6, 2), (2048, 4, 2))
"""Width, blocks and stride of each stage."""
INNER_SHARE = 0.35
"""Inner channels, as a share of a block's outputs."""
RESIDUAL_CONV = "mobile_inverted_conv"
"""Name of the convolution beside a shortcut, which is no inverted residual here."""


def resnet_network(size: int, num_classes: int = 1000) -> Architecture:
    half = STEM // 2
    blocks = [Block("conv", 3, half, 3, 2, 1, size, "relu")]
    blocks.append(Block("fused_mbconv", half, half, 3, 1, 1, blocks[-1].out_size, "relu"))
    blocks.append(Block("conv", half, STEM, 3, 1, 1, blocks[-1].out_size, "relu"))
    blocks.append(Block("max_pool", STEM, STEM, 3, 2, 1, blocks[-1].out_size))
    for width, depth, stride in STAGES:
        for place in range(depth):
            blocks.append(_bottleneck(blocks[-1], width, 1 if place else stride))
    last = blocks[-1]
    blocks.append(Block("logits", last.out_channels, num_classes, 1, 1, 1, last.out_size))
    shape = (3, size, size)
    return Architecture(Genotype(RESNET, ()), tuple(blocks), shape, num_classes, norm_eps=1e-5)


def _bottleneck(before: Block, width: int, stride: int) -> Block:
    """Return a bottleneck; only a shortcut with a stride averages pixels."""
    inner = round_channels(round(width * INNER_SHARE))
    c_in, op = before.out_channels, "bottleneck" if stride == 1 else "bottleneck_d"
    return Block(op, c_in, width, 3, stride, inner / c_in, before.out_size, "relu")


def resnet_slices(network: Architecture) -> dict[int, dict[int, Tensor]]:
    """Return the blocks that the supernet trained at smaller widths: all bottlenecks."""
    return {place: {} for place in _bottlenecks(network)}


def resnet_modules(network: Architecture) -> ModulePairs:
    """Return the module pairs for keys as `plain_keys` returns them."""
    modules: ModulePairs = {
        **_unit("blocks.0", "input_stem.0"),
        **_unit("blocks.1.layers.dense", f"input_stem.1.{RESIDUAL_CONV}"),
        **_unit("blocks.2", "input_stem.2"),
        f"blocks.{len(network.blocks) - 1}.linear": "classifier.linear",
    }
    for number, place in enumerate(_bottlenecks(network)):
        theirs, block = f"blocks.{number}", network.blocks[place]
        for layer, name in (("reduce", "conv1"), ("spatial", "conv2"), ("restore", "conv3")):
            modules |= _unit(f"blocks.{place}.layers.{layer}", f"{theirs}.{name}")
        if not block.residual:
            modules |= _unit(f"blocks.{place}.shortcut", f"{theirs}.downsample")
    return modules


def _bottlenecks(network: Architecture) -> list[int]:
    return [p for p, block in enumerate(network.blocks) if block.op.startswith("bottleneck")]


def _unit(ours: str, theirs: str) -> ModulePairs:
    return conv_norm(ours, f"{theirs}.conv", f"{theirs}.bn")
