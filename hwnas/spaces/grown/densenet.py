"""`densenet`: DenseNet-BC, a growth for each layer; EAS's second space.

Huang, Liu, van der Maaten and Weinberger, CVPR 2017, arXiv:1608.06993; Cai et al., AAAI 2018,
arXiv:1707.04873, section 3.3. The start is the network that the EAS code is set to, DenseNet-BC of
depth 10 and growth 4: one layer in each of three dense blocks. Transitions halve the channels. The
first convolution keeps its width, as `hwnas.nn.growth.dense` grows dense layers only.
"""

from __future__ import annotations

from hwnas.architecture.architecture import Block
from hwnas.spaces.grown.chain import square
from hwnas.spaces.grown.space import GrownSpace, GrownStage, LaidOut, Layer, Layers, Place

GROWTHS = tuple(range(4, 49, 2))
DENSE_BLOCKS = 3
DEPTH = 20
"""Layers of a dense block at most."""
BOTTLENECK = 4
"""Channels between a layer's two convolutions over its growth."""
FIRST = 8
"""Filters of the first convolution: twice the growth of the start."""
REDUCTION = 0.5
"""Channels out over channels in of a transition, rounded down."""
LARGEST_FIRST = 64
"""Pixels that the first dense block has at most."""


def densenet(input_shape: tuple[int, int, int], num_classes: int) -> GrownSpace:
    """Return the space for images of ``input_shape`` (channels, height, width)."""
    size = square("densenet", input_shape, 2 ** (DENSE_BLOCKS - 1))
    stride = 2 if size > LARGEST_FIRST else 1
    stem = [Block("bare_conv", input_shape[0], FIRST, 3, stride, 1, size)]
    while stem[-1].out_size > LARGEST_FIRST:
        stem.append(Block("max_pool", FIRST, FIRST, 2, 2, 1, stem[-1].out_size))
    stage = GrownStage(
        widths=GROWTHS, kernels=(3,), depth=DEPTH, start=(Layer(4, 3),), usual=(Layer(12, 3),) * 2
    )
    stages = (stage,) * DENSE_BLOCKS
    return GrownSpace(
        "densenet",
        input_shape,
        num_classes,
        stages,
        "dense",
        dense_blocks,
        tuple(stem),
        wider_actions=10,
    )


def dense_blocks(space: GrownSpace, layers: Layers) -> LaidOut:
    """Lay out the stem, dense blocks with transitions between them, and the classifier."""
    found: list[tuple[Block, Place | None]] = [(block, None) for block in space.stem]
    channels, size = space.stem[-1].out_channels, space.stem[-1].out_size
    for stage, row in enumerate(layers):
        if stage:
            half = int(REDUCTION * channels)
            found.append((Block("transition", channels, half, 2, 2, 1, size, "relu"), None))
            channels, size = half, found[-1][0].out_size
        for number, layer in enumerate(row):
            wide = channels + layer.width
            dense = Block(
                "dense_layer", channels, wide, layer.kernel_size, 1, BOTTLENECK, size, "relu"
            )
            found.append((dense, Place(stage, number)))
            channels = wide
    end = Block("norm_logits", channels, space.num_classes, 1, 1, 1, size, "relu")
    return [*found, (end, None)]
