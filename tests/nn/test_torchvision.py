"""Torchvision's networks as blocks: with weights copied in order, the logits are the same."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import nn
from torchvision import models

from hwnas.architecture.architecture import Architecture, Block, Genotype
from hwnas.nn.build import build
from tests.nn.test_supernet import randomise

SIZE, CLASSES = 64, 1000


class Chain:
    """Blocks in a row, each of which takes the output of the one before."""

    def __init__(self, activation: str) -> None:
        self.blocks: list[Block] = []
        self.channels, self.size, self.activation = 3, SIZE, activation

    def add(
        self, op: str, c_out: int, kernel_size: int = 1, stride: int = 1, mid: int = 0, **more: Any
    ) -> None:
        """Append a block; ``mid`` are its inner channels, if they are not those of its input."""
        ratio = mid / self.channels if mid else 1
        fields = {"activation": self.activation, **more}
        block = Block(op, self.channels, c_out, kernel_size, stride, ratio, self.size, **fields)
        self.channels, self.size = block.out_channels, block.out_size
        self.blocks.append(block)

    def stages(self, stages: str, **more: Any) -> None:
        """Append MBConvs: expansion, width, depth, stride and kernel size of each stage."""
        for stage in stages.split(","):
            expansion, width, depth, stride, kernel_size = map(int, stage.split())
            for place in range(depth):
                fields = {"squeezed": self.channels // 4, **more} if more else {}
                mid = expansion * self.channels
                self.add("mbconv", width, kernel_size, 1 if place else stride, mid, **fields)

    def end(self) -> tuple[Block, ...]:
        self.add("logits", CLASSES)
        return tuple(self.blocks)


def mobilenet_v2() -> tuple[Block, ...]:
    chain = Chain("relu6")
    chain.add("conv", 32, 3, 2)
    chain.stages("1 16 1 1 3, 6 24 2 2 3, 6 32 3 2 3, 6 64 4 2 3, 6 96 3 1 3, 6 160 3 2 3")
    chain.stages("6 320 1 1 3")
    chain.add("conv", 1280)
    return chain.end()


def mnasnet() -> tuple[Block, ...]:
    chain = Chain("relu")
    chain.add("conv", 32, 3, 2)
    chain.stages("1 16 1 1 3, 3 24 3 2 3, 3 40 3 2 5, 6 80 3 2 5, 6 96 2 1 3, 6 192 4 2 5")
    chain.stages("6 320 1 1 3")
    chain.add("conv", 1280)
    return chain.end()


MOBILENET_V3_LARGE = """
16 3 1 16 relu, 64 3 2 24 relu, 72 3 1 24 relu, 72 5 2 40 relu se, 120 5 1 40 relu se,
120 5 1 40 relu se, 240 3 2 80 hswish, 200 3 1 80 hswish, 184 3 1 80 hswish, 184 3 1 80 hswish,
480 3 1 112 hswish se, 672 3 1 112 hswish se, 672 5 2 160 hswish se, 960 5 1 160 hswish se,
960 5 1 160 hswish se
"""
"""Inner channels, kernel size, stride, width, activation and squeeze-excite (table 1)."""


def mobilenet_v3_large() -> tuple[Block, ...]:
    chain = Chain("hswish")
    chain.add("conv", 16, 3, 2)
    for row in MOBILENET_V3_LARGE.split(","):
        mid, kernel_size, stride, width, activation, *gate = row.split()
        chain.add(
            "mbconv", int(width), int(kernel_size), int(stride), int(mid),
            activation=activation, squeeze_excite=bool(gate),
        )  # fmt: skip
    chain.add("conv", 960)
    chain.add("hidden", 1280)
    return chain.end()


def efficientnet_b0() -> tuple[Block, ...]:
    chain = Chain("silu")
    chain.add("conv", 32, 3, 2)
    chain.stages(
        "1 16 1 1 3, 6 24 2 2 3, 6 40 2 2 5, 6 80 3 2 3, 6 112 3 1 5, 6 192 4 2 5, 6 320 1 1 3",
        squeeze_excite=True,
        gate="sigmoid",
    )
    chain.add("conv", 1280)
    return chain.end()


def resnet(op: str, depths: tuple[int, ...], expansion: int) -> tuple[Block, ...]:
    chain = Chain("relu")
    chain.add("conv", 64, 7, 2)
    chain.add("max_pool", 64, 3, 2)
    for stage, depth in enumerate(depths):
        mid = 64 * 2**stage
        for place in range(depth):
            chain.add(op, mid * expansion, 3, 2 if stage and not place else 1, mid)
    return chain.end()


def resnet18() -> tuple[Block, ...]:
    return resnet("basic", (2, 2, 2, 2), 1)


def resnet50() -> tuple[Block, ...]:
    return resnet("bottleneck", (3, 4, 6, 3), 4)


NETWORKS: dict[str, tuple[Callable[[], tuple[Block, ...]], Callable[[], nn.Module], float]] = {
    "mobilenet_v2": (mobilenet_v2, models.mobilenet_v2, 1e-5),
    "mnasnet1_0": (mnasnet, models.mnasnet1_0, 1e-5),
    "mobilenet_v3_large": (mobilenet_v3_large, models.mobilenet_v3_large, 1e-3),
    "efficientnet_b0": (efficientnet_b0, models.efficientnet_b0, 1e-5),
    "resnet18": (resnet18, models.resnet18, 1e-5),
    "resnet50": (resnet50, models.resnet50, 1e-5),
}
"""Blocks, torchvision's network, and the epsilon of its batch norms."""
SAME_ORDER = ("mobilenet_v2", "mnasnet1_0", "resnet18", "resnet50")
"""These run the same operations in the same order."""


@pytest.mark.parametrize("name", NETWORKS)
def test_the_logits_are_those_of_torchvision(name: str) -> None:
    blocks, make, norm_eps = NETWORKS[name]
    theirs = make().eval()
    torch.manual_seed(0)
    randomise(theirs)
    architecture = Architecture(
        Genotype("", ()), blocks(), (3, SIZE, SIZE), CLASSES, norm_eps=norm_eps
    )
    ours = build(architecture).eval()
    pairs = zip(ours.state_dict().items(), theirs.state_dict().values(), strict=True)
    ours.load_state_dict({key: other.view_as(own) for (key, own), other in pairs})
    images = torch.randn(2, 3, SIZE, SIZE)
    with torch.inference_mode():
        logits, expected = ours(images), theirs(images)
    assert architecture.params == sum(weight.numel() for weight in theirs.parameters())
    if name in SAME_ORDER:
        assert torch.equal(logits, expected)
    assert (logits - expected).abs().max() <= 1e-6 * expected.abs().max()
