"""The largest network of OFA's ResNet-50, by a plain module with random weights."""

from __future__ import annotations

import re
from collections import OrderedDict
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from hwnas.errors import InvalidFile
from hwnas.pretrained.load import load_source
from hwnas.pretrained.sources import find_source
from tests.support.networks.trained import randomise

NAME = "ofa_resnet50"
SIZE = 72
"""72, 36, 18, 9, 5, 3: the shortcuts of the last stages average odd maps."""


class Dynamic(nn.Module):
    """A layer of a supernet: the full one, under the name of its kind."""

    def __init__(self, name: str, layer: nn.Module) -> None:
        super().__init__()
        self.layer_name = name
        self.add_module(name, layer)

    def forward(self, x: Tensor) -> Tensor:
        return self.get_submodule(self.layer_name)(x)


def unit(
    c_in: int, c_out: int, size: int, stride: int = 1, *, act: bool = True, pool: int = 0
) -> nn.Sequential:
    layers: OrderedDict[str, nn.Module] = OrderedDict()
    if pool:
        layers["avg_pool"] = nn.AvgPool2d(pool, pool, ceil_mode=True)
    conv = nn.Conv2d(c_in, c_out, size, stride, size // 2, bias=False)
    layers |= {"conv": Dynamic("conv", conv), "bn": Dynamic("bn", nn.BatchNorm2d(c_out))}
    if act:
        layers["act"] = nn.ReLU()
    return nn.Sequential(layers)


class ResidualConv(nn.Module):
    def __init__(self, channels: int) -> None:
        super().__init__()
        self.conv = unit(channels, channels, 3)

    def forward(self, x: Tensor) -> Tensor:
        return x + self.conv(x)


class Bottleneck(nn.Module):
    def __init__(self, c_in: int, inner: int, c_out: int, stride: int) -> None:
        super().__init__()
        self.conv1, self.conv2 = unit(c_in, inner, 1), unit(inner, inner, 3, stride)
        self.conv3 = unit(inner, c_out, 1, act=False)
        changes = c_in != c_out or stride > 1
        self.downsample = unit(c_in, c_out, 1, act=False, pool=stride) if changes else None

    def forward(self, x: Tensor) -> Tensor:
        y = self.conv3(self.conv2(self.conv1(x)))
        return torch.relu(y + (x if self.downsample is None else self.downsample(x)))


class Supernet(nn.Module):
    """Full widths and all blocks."""

    def __init__(self) -> None:
        super().__init__()
        self.input_stem = nn.Sequential(unit(3, 32, 3, 2), ResidualConv(32), unit(32, 64, 3))
        self.max_pooling = nn.MaxPool2d(3, 2, 1)
        self.blocks, before = nn.Sequential(), 64
        for width, inner, depth, stride in (
            (256, 88, 4, 1),
            (512, 176, 4, 2),
            (1024, 360, 6, 2),
            (2048, 720, 4, 2),
        ):
            for place in range(depth):
                self.blocks.append(Bottleneck(before, inner, width, 1 if place else stride))
                before = width
        linear = Dynamic("linear", nn.Linear(2048, 9))
        self.classifier = nn.Sequential(OrderedDict(linear=linear))

    def forward(self, x: Tensor) -> Tensor:
        x = self.blocks(self.max_pooling(self.input_stem(x)))
        return self.classifier(x.mean(dim=(2, 3)))


@pytest.fixture(scope="module")
def supernet() -> nn.Module:
    torch.manual_seed(0)
    return randomise(Supernet())


def as_older_code_writes(key: str) -> str:
    return key.replace("input_stem.1.conv.", "input_stem.1.mobile_inverted_conv.")


def as_a_network_alone(key: str) -> str:
    return re.sub(r"\.(conv|bn|linear)\.\1\.(?=[a-z_]+$)", r".\1.", key)


@pytest.mark.parametrize("rename", [str, as_older_code_writes, as_a_network_alone])
def test_the_largest_network_of_the_supernet(
    tmp_path: Path, supernet: nn.Module, rename: Callable[[str], str]
) -> None:
    weights = {rename(key): value for key, value in supernet.state_dict().items()}
    torch.save({"state_dict": weights}, tmp_path / "ofa.pth")
    network = load_source(NAME, tmp_path / "ofa.pth").at((3, SIZE, SIZE))
    images = torch.randn((2, 3, SIZE, SIZE), generator=torch.Generator().manual_seed(1))
    with torch.inference_mode():
        logits, expected = network.network()(images), supernet(images)
    assert (logits - expected).abs().max() <= 1e-5 * expected.abs().max()
    blocks = network.architecture.blocks
    assert network.slices == {p: {} for p, b in enumerate(blocks) if b.op.startswith("bottleneck")}
    assert network.architecture.params == sum(each.numel() for each in supernet.parameters())


def test_a_missing_key_is_named(tmp_path: Path, supernet: nn.Module) -> None:
    weights = supernet.state_dict()
    del weights["blocks.4.downsample.bn.bn.running_var"]
    torch.save(weights, tmp_path / "mine.pth")
    with pytest.raises(InvalidFile, match=r"has no blocks.4.downsample.bn.running_var"):
        load_source(NAME, tmp_path / "mine.pth")


def test_multiply_accumulates_of_the_list_are_those_of_its_layers() -> None:
    source, macs, size = find_source(NAME), 0, 56
    macs += 112 * 112 * 9 * (3 * 32 + 32 * 32 + 32 * 64)
    before = 64
    for width, inner, depth, stride in (
        (256, 88, 4, 1),
        (512, 176, 4, 2),
        (1024, 360, 6, 2),
        (2048, 720, 4, 2),
    ):
        for place in range(depth):
            large, size = size, size // (1 if place else stride)
            macs += large * large * before * inner
            macs += size * size * (9 * inner * inner + inner * width)
            macs += 0 if place else size * size * before * width
            before = width
    assert source.macs == macs + 2048 * 1000
