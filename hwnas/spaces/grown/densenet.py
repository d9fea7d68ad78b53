"""`densenet`: DenseNet-BC with a growth rate for each layer, the second space of EAS.

Huang, Liu, van der Maaten and Weinberger, CVPR 2017, arXiv:1608.06993; Cai et al., AAAI 2018,
arXiv:1707.04873, section 3.3. The start network is the default of the EAS code, DenseNet-BC of
depth 10 and growth 4: one layer in each of three dense blocks. Transitions halve the channels. The
width of the first convolution is fixed, as `hwnas.nn.growth.dense` grows dense layers only.
"""

from __future__ import annotations

from hwnas.architecture.architecture import Block
from hwnas.architecture.size import axes
from hwnas.spaces.grown.chain import image_size
from hwnas.spaces.grown.space import GrownSpace, GrownStage, Layer, Layers, Place, PlacedBlocks

GROWTHS = tuple(range(4, 49, 2))
DENSE_BLOCKS = 3
MAX_DEPTH = 20
"""Maximum number of layers in a dense block."""
BOTTLENECK = 4
"""Channels between a layer's two convolutions, over its growth."""
STEM_WIDTH = 8
"""Filters of the first convolution: twice the growth of the start network."""
REDUCTION = 0.5
"""Output over input channels of a transition, rounded down."""
MAX_FIRST_SIZE_PX = 64
"""Maximum size of the feature maps in the first dense block."""


def densenet(input_shape: tuple[int, int, int], num_classes: int) -> GrownSpace:
    """Return the space for images of ``input_shape`` (channels, height, width)."""
    size = image_size("densenet", input_shape, 2 ** (DENSE_BLOCKS - 1))
    stride = 2 if max(axes(size)) > MAX_FIRST_SIZE_PX else 1
    stem = [Block("bare_conv", input_shape[0], STEM_WIDTH, 3, stride, 1, size)]
    while max(axes(stem[-1].out_size)) > MAX_FIRST_SIZE_PX:
        stem.append(Block("max_pool", STEM_WIDTH, STEM_WIDTH, 2, 2, 1, stem[-1].out_size))
    stage = GrownStage(
        widths=GROWTHS,
        kernels=(3,),
        depth=MAX_DEPTH,
        start=(Layer(4, 3),),
        default=(Layer(12, 3),) * 2,
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


def dense_blocks(space: GrownSpace, layers: Layers) -> PlacedBlocks:
    """Lay out the stem, dense blocks with transitions between them, and the classifier."""
    placed: PlacedBlocks = [(block, None) for block in space.stem]
    channels, size = space.stem[-1].out_channels, space.stem[-1].out_size
    for stage, row in enumerate(layers):
        if stage:
            half = int(REDUCTION * channels)
            placed.append((Block("transition", channels, half, 2, 2, 1, size, "relu"), None))
            channels, size = half, placed[-1][0].out_size
        for number, layer in enumerate(row):
            wide = channels + layer.width
            dense = Block(
                "dense_layer", channels, wide, layer.kernel_size, 1, BOTTLENECK, size, "relu"
            )
            placed.append((dense, Place(stage, number)))
            channels = wide
    head = Block("norm_logits", channels, space.num_classes, 1, 1, 1, size, "relu")
    return [*placed, (head, None)]
