"""The auxiliary classifier that helps to train deep stacks of cells and is then discarded.

As in DARTS's code (arXiv:1806.09055) after GoogLeNet (Szegedy et al., CVPR 2015, arXiv:1409.4842):
its loss is added with weight 0.4. It is no part of the architecture, nor of any count.
"""

from __future__ import annotations

from torch import Tensor, nn

from hwnas.architecture.architecture import Architecture
from hwnas.errors import UsageError
from hwnas.nn.network import Network, WiredNetwork

WINDOW = 5
"""Kernel size of the average pool."""


class AuxiliaryHead(nn.Sequential):
    """Maps ``[N, C, size, size]`` to logits ``[N, classes]`` by way of 2x2 pooled windows.

    DARTS's two variants: 8 px (stride 3), and, for ImageNet, 7 px (stride 2) without the last
    batch norm.
    """

    def __init__(self, channels: int, size: int, num_classes: int, last_norm: bool = True) -> None:
        super().__init__()
        if size <= WINDOW:
            raise UsageError(
                f"the auxiliary head takes feature maps of at least {WINDOW + 1} px, got {size} px"
            )
        self.act = nn.ReLU()
        self.pool = nn.AvgPool2d(WINDOW, size - WINDOW, count_include_pad=False)
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

    Raises `UsageError` for a network without cells, or whose last maps are too small.
    """

    def __init__(self, network: Network, architecture: Architecture) -> None:
        super().__init__()
        if not isinstance(network, WiredNetwork):
            raise UsageError("an auxiliary head is for networks of cells; this one is a chain")
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

    It is the output of the second reduction cell, the first cell with the smallest maps.
    """
    outputs = [n for n, block in enumerate(architecture.blocks) if block.op == "concat"]
    if not outputs:
        raise UsageError("an auxiliary head is for networks of cells; this one has none")
    return min(outputs, key=lambda place: architecture.blocks[place].out_size)


def trainee(network: Network, architecture: Architecture, auxiliary: float) -> nn.Module:
    """Return the module to train: ``network``, with an auxiliary head if its loss has a weight."""
    return WithAuxiliary(network, architecture) if auxiliary else network
