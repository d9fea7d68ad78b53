"""Blocks of ResNet against torchvision's, and in a network."""

from __future__ import annotations

import pytest
import torch
from torch import nn
from torchvision.models.resnet import BasicBlock, Bottleneck

from hwnas.architecture.architecture import Block
from hwnas.nn.blocks.residual import ResidualBlock
from hwnas.nn.blocks.table import block_module
from hwnas.nn.build import initialise
from tests.nn.test_supernet import randomise


def downsample(c_in: int, c_out: int, stride: int) -> nn.Module:
    return nn.Sequential(nn.Conv2d(c_in, c_out, 1, stride, bias=False), nn.BatchNorm2d(c_out))


PAIRS = {
    "basic": (Block("basic", 8, 8, 3, 1, 1, 9, "relu"), lambda: BasicBlock(8, 8)),
    "projected basic": (
        Block("basic", 8, 12, 3, 2, 1.5, 9, "relu"),
        lambda: BasicBlock(8, 12, 2, downsample(8, 12, 2)),
    ),
    "bottleneck": (Block("bottleneck", 16, 16, 3, 1, 0.25, 9, "relu"), lambda: Bottleneck(16, 4)),
    "projected bottleneck": (
        Block("bottleneck", 8, 16, 3, 1, 0.5, 9, "relu"),
        lambda: Bottleneck(8, 4, 1, downsample(8, 16, 1)),
    ),
    "strided bottleneck": (
        Block("bottleneck", 16, 32, 3, 2, 0.5, 9, "relu"),
        lambda: Bottleneck(16, 8, 2, downsample(16, 32, 2)),
    ),
}


@pytest.mark.parametrize("name", PAIRS)
def test_they_are_those_of_torchvision(name: str) -> None:
    block, make = PAIRS[name]
    torch.manual_seed(0)
    theirs, ours = make().eval(), block_module(block).eval()
    randomise(theirs)
    values = theirs.state_dict().values()
    ours.load_state_dict(dict(zip(ours.state_dict(), values, strict=True)))
    images = torch.randn(2, block.in_channels, 9, 9)
    assert torch.equal(ours(images), theirs(images))


@pytest.mark.parametrize("name", ["basic", "bottleneck"])
def test_a_fresh_block_passes_on_what_an_activation_gave(name: str) -> None:
    block = PAIRS[name][0]
    module = block_module(block)
    initialise(module)
    assert isinstance(module, ResidualBlock)
    images = torch.rand(2, block.in_channels, 9, 9)
    assert torch.equal(module(images), images)


def test_a_strided_shortcut_of_few_channels_has_pytorchs_gradient() -> None:
    torch.manual_seed(0)
    block = Block("basic", 4, 8, 3, 2, 1, 8, "relu")
    ours = block_module(block).double()
    theirs = BasicBlock(4, 8, 2, downsample(4, 8, 2)).double()
    theirs.conv1, theirs.bn1 = nn.Conv2d(4, 4, 3, 2, 1, bias=False), nn.BatchNorm2d(4)
    theirs.conv2 = nn.Conv2d(4, 8, 3, 1, 1, bias=False)
    theirs.double()
    values = ours.state_dict().values()
    theirs.load_state_dict(dict(zip(theirs.state_dict(), values, strict=True)))
    images = torch.randn(2, 4, 8, 8, dtype=torch.float64).to(memory_format=torch.channels_last)
    for module in (ours, theirs):
        (module(images) ** 2).sum().backward()
    for own, other in zip(ours.parameters(), theirs.parameters(), strict=True):
        torch.testing.assert_close(own.grad, other.grad)
