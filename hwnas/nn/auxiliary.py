"""The auxiliary classifier that helps to train deep stacks of cells and is then discarded.

As in DARTS's code (arXiv:1806.09055) after GoogLeNet (Szegedy et al., CVPR 2015, arXiv:1409.4842):
its loss is added with weight 0.4. It does not belong to the architecture, so its MACs and
parameters are not counted.
"""

from __future__ import annotations

from torch import Tensor, nn

from hwnas.architecture.architecture import Architecture
from hwnas.architecture.size import Size, area, axes, size_text
from hwnas.errors import UsageError
from hwnas.nn.network import Network, WiredNetwork

POOL_KERNEL_SIZE = 5
"""Kernel size of the average pool."""


class AuxiliaryHead(nn.Sequential):
    """Map ``[N, C, H, W]`` to logits ``[N, classes]`` through an average pool to 2x2.

    DARTS's two variants: 8 px (stride 3), and, for ImageNet, 7 px (stride 2) without the last
    batch norm.
    """

    def __init__(self, channels: int, size: Size, num_classes: int, last_norm: bool = True) -> None:
        super().__init__()
        height, width = axes(size)
        if min(height, width) <= POOL_KERNEL_SIZE:
            raise UsageError(
                f"the auxiliary head needs feature maps of at least {POOL_KERNEL_SIZE + 1} px, "
                f"got {size_text(size)} px"
            )
        strides = height - POOL_KERNEL_SIZE, width - POOL_KERNEL_SIZE
        self.act = nn.ReLU()
        self.pool = nn.AvgPool2d(POOL_KERNEL_SIZE, strides, count_include_pad=False)
        self.squeeze = nn.Conv2d(channels, 128, 1, bias=False)
        self.squeeze_norm = nn.BatchNorm2d(128)
        self.squeeze_act = nn.ReLU()
        self.gather = nn.Conv2d(128, 768, 2, bias=False)
        self.gather_norm = nn.BatchNorm2d(768) if last_norm else nn.Identity()
        self.gather_act = nn.ReLU()
        self.flatten = nn.Flatten()
        self.linear = nn.Linear(768, num_classes)


class WithAuxiliary(nn.Module):
    """A network that returns logits and auxiliary logits in training, only logits in evaluation.

    Raises `UsageError` for a network without cells or with last feature maps that are too small.
    """

    def __init__(self, network: Network, architecture: Architecture) -> None:
        super().__init__()
        if not isinstance(network, WiredNetwork):
            raise UsageError("an auxiliary head needs a network of cells, got a chain of blocks")
        self.network = network
        self.place = auxiliary_place(architecture)
        block = architecture.blocks[self.place]
        cifar = architecture.blocks[0].stride == 1
        self.head = AuxiliaryHead(
            block.out_channels, block.out_size, architecture.num_classes, last_norm=cifar
        )

    def forward(self, images: Tensor) -> Tensor | tuple[Tensor, Tensor]:
        if not self.training:
            return self.network(images)
        logits, tapped = self.network.outputs(images, (self.place,))
        return logits, self.head(tapped)


def auxiliary_place(architecture: Architecture) -> int:
    """Return the index of the block that the head follows.

    It is the output of the second reduction cell, the first with the smallest feature maps.
    """
    outputs = [n for n, block in enumerate(architecture.blocks) if block.op == "concat"]
    if not outputs:
        raise UsageError("an auxiliary head needs a network of cells, got one without cells")
    return min(outputs, key=lambda place: area(architecture.blocks[place].out_size))


def trainee(network: Network, architecture: Architecture, auxiliary: float) -> nn.Module:
    """Return ``network``, with an auxiliary head if the loss weight ``auxiliary`` is not 0."""
    return WithAuxiliary(network, architecture) if auxiliary else network
