"""`chain` and `chain-large`: plain convolutional networks without branches, the first space of EAS.

Cai et al., AAAI 2018, arXiv:1707.04873: convolutions with batch norm and ReLU, a max pool after
each stage, a global pool, fully connected layers. Start networks, widths and kernels are those of
the paper's code (``chain``, 710 parameters) and of the paper (``chain-large``, 133,530). The number
of pools depends on the image size: they leave at least 2 and at most 7 pixels.
"""

from __future__ import annotations

from hwnas.architecture.architecture import Block
from hwnas.architecture.size import Size, axes, size_of, size_text
from hwnas.errors import UsageError
from hwnas.spaces.grown.space import GrownSpace, GrownStage, Layer, Layers, Place, PlacedBlocks

KERNELS = (1, 3, 5)
MAX_DEPTH, MAX_FC_DEPTH = 10, 3
"""Maximum number of layers in a stage."""
SMALL_WIDTHS, SMALL_UNITS = tuple(range(4, 41, 4)), tuple(range(8, 81, 8))
LARGE_WIDTHS = (16, 32, 64, 96, 128, 192, 256, 320, 384, 448, 512, 576, 640)
LARGE_UNITS = (64, 128, 256, 384, 512, 640, 768, 896, 1024, 1152, 1280)
STAGES = 4
"""Stages of the paper's networks, for 32 px."""
MAX_LAST_SIZE_PX = 7
"""Maximum size of the feature maps in the last stage."""


def chain(input_shape: tuple[int, int, int], num_classes: int) -> GrownSpace:
    """Return the space of the paper's code: 4 to 40 filters, a start of 4 in each stage."""
    return _chain(
        "chain", input_shape, num_classes, (SMALL_WIDTHS, SMALL_UNITS), (4, 4, 4, 4), (8, 64)
    )


def chain_large(input_shape: tuple[int, int, int], num_classes: int) -> GrownSpace:
    """Return the paper's space: 16 to 640 filters, a start of 16, 32, 64 and 128."""
    return _chain(
        "chain-large",
        input_shape,
        num_classes,
        (LARGE_WIDTHS, LARGE_UNITS),
        (16, 32, 64, 128),
        (256, 256),
    )


def plain_blocks(space: GrownSpace, layers: Layers) -> PlacedBlocks:
    """Lay out convolutions, pools and the classifier.

    Raises `UsageError` where strides and pools leave no pixel.
    """
    channels, size = space.input_shape[0], size_of(*space.input_shape[1:])
    placed: PlacedBlocks = []

    def add(block: Block, at: Place | None) -> None:
        nonlocal channels, size
        height, width = axes(block.in_size)
        if min(axes(block.out_size)) < 1:
            raise UsageError(
                f"{space.name}: the pool of {block.kernel_size} after stage {stage_number + 1} "
                f"leaves no pixels of {height}x{width}; the images have "
                f"{space.input_shape[1]}x{space.input_shape[2]}"
            )
        channels, size = block.out_channels, block.out_size
        placed.append((block, at))

    for stage_number, (stage, row) in enumerate(zip(space.stages, layers, strict=True)):
        if stage.fully_connected:
            add(Block("global_pool", channels, channels, 1, 1, 1, size), None)
        for number, layer in enumerate(row):
            stride = 1 if number else stage.stride
            width, kernel = layer.width, layer.kernel_size
            conv = Block("conv", channels, width, kernel, stride, 1, size, "relu")
            add(conv, Place(stage_number, number))
        if stage.pool > 1:
            add(Block("max_pool", channels, channels, stage.pool, stage.pool, 1, size), None)
    placed.append((Block("logits", channels, space.num_classes, 1, 1, 1, size), None))
    return placed


def image_size(name: str, input_shape: tuple[int, int, int], min_px: int) -> Size:
    """Return height and width of the images. Raises `UsageError` if they are too small."""
    size = size_of(*input_shape[1:])
    if min(axes(size)) < min_px:
        text = size_text(size)
        raise UsageError(f"the space {name} takes images of at least {min_px} px, got {text} px")
    return size


def _chain(
    name: str,
    input_shape: tuple[int, int, int],
    num_classes: int,
    levels: tuple[tuple[int, ...], tuple[int, ...]],
    start: tuple[int, ...],
    units: tuple[int, int],
) -> GrownSpace:
    sides = axes(image_size(name, input_shape, 4))
    pools = min(STAGES - 1, min(sides).bit_length() - 2)  # at least 2 px remain
    while max(sides) >> pools > MAX_LAST_SIZE_PX and min(sides) >> pools > 1:
        pools += 1
    widths, fc_widths = levels
    stages = tuple(
        GrownStage(
            widths=widths,
            kernels=KERNELS,
            depth=MAX_DEPTH,
            start=(Layer(start[min(number, STAGES - 1)], 3),),
            default=(Layer(widths[_default_level(number, len(widths))], 3),) * 2,
            pool=2 if number < pools else 1,
        )
        for number in range(pools + 1)
    )
    fc = GrownStage(
        widths=fc_widths,
        kernels=(1,),
        depth=MAX_FC_DEPTH,
        start=(Layer(units[0], 1),),
        default=(Layer(units[1], 1),),
        fully_connected=True,
    )
    return GrownSpace(name, input_shape, num_classes, (*stages, fc), "plain", plain_blocks)


def _default_level(stage: int, levels: int) -> int:
    """Return the level of a stage's width in the default network, which is of medium size.

    Of `SMALL_WIDTHS` 12, 20, 28, 36; of `LARGE_WIDTHS` 16, 64, 128, 256.
    """
    return min(levels - 1, 2 * stage + (2 if levels == len(SMALL_WIDTHS) else 0))
