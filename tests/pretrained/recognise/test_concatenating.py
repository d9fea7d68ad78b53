"""Layers of DenseNet and units of ShuffleNet are recognised, and nothing that resembles them."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from hwnas.errors import UsageError
from hwnas.pretrained.network import loaded
from hwnas.pretrained.recognise.network import recognise, verify
from tests.support.networks.convolutions import Head, depthwise_unit, unit
from tests.support.networks.trained import randomise

SHAPE = (3, 64, 64)


class ShuffleUnit(nn.Module):
    """A unit of ShuffleNet, or one that differs from it in a detail."""

    def __init__(self, side_size: int = 3, groups: int = 2, swaps: bool = False) -> None:
        super().__init__()
        self.side = nn.Sequential(*depthwise_unit(8, side_size, 2), *unit(8, 8, 1), nn.ReLU())
        self.branch = nn.Sequential(
            *unit(8, 12, 1), nn.ReLU(), *depthwise_unit(12, 3, 2), *unit(12, 8, 1), nn.ReLU()
        )
        self.one_half = nn.Sequential(
            *unit(8, 8, 1), nn.ReLU(), *depthwise_unit(8, 3), *unit(8, 8, 1), nn.ReLU()
        )
        self.shuffle = nn.ChannelShuffle(groups)
        self.narrow = nn.Sequential(*unit(16, 8, 1), nn.ReLU())
        self.swaps = swaps

    def forward(self, x: Tensor) -> Tensor:
        x = self.shuffle(torch.cat((self.side(x), self.branch(x)), 1))
        first, second = torch.chunk(x, chunks=2, dim=1)
        parts = (self.one_half(second), first) if self.swaps else (first, self.one_half(second))
        return self.narrow(self.shuffle(torch.cat(parts, 1)))


def test_units_of_shufflenet_are_read_by_what_they_compute() -> None:
    source = randomise(Head(ShuffleUnit())).eval()
    architecture, weights = recognise(source, SHAPE)
    assert [block.key for block in architecture.blocks[1:3]] == [
        "shuffle_unit k3 s2 e1.5 8>16 @32 relu",
        "shuffle_unit k3 s1 e0.5 16>16 @16 relu",
    ]
    verify(source, loaded(architecture, weights), SHAPE, "mine")


@pytest.mark.parametrize("module", [ShuffleUnit(side_size=5), ShuffleUnit(swaps=True)])
def test_units_that_differ_from_those_of_shufflenet_are_none(module: nn.Module) -> None:
    source = randomise(Head(module)).eval()
    architecture, weights = recognise(source, SHAPE)
    assert [block.op for block in architecture.blocks].count("shuffle_unit") < 2
    assert "piece" in {block.op for block in architecture.blocks}
    verify(source, loaded(architecture, weights), SHAPE, "mine")


class Dense(nn.Module):
    """A layer of DenseNet, whose input comes first or last in the concatenation."""

    def __init__(self, input_first: bool = True) -> None:
        super().__init__()
        self.layers = nn.Sequential(
            nn.BatchNorm2d(8), nn.ReLU(), *unit(8, 16, 1), nn.ReLU(),
            nn.Conv2d(16, 4, 3, padding=1, bias=False),
        )  # fmt: skip
        self.narrow = nn.Sequential(
            nn.BatchNorm2d(12), nn.ReLU(), nn.Conv2d(12, 8, 1, bias=False), nn.AvgPool2d(2)
        )
        self.act = nn.Sequential(*unit(8, 8, 3), nn.ReLU())
        self.input_first = input_first

    def forward(self, x: Tensor) -> Tensor:
        parts = (x, self.layers(x)) if self.input_first else (self.layers(x), x)
        return self.act(self.narrow(torch.cat(parts, 1)))


def test_layers_of_densenet_append_to_their_input() -> None:
    source = randomise(Head(Dense())).eval()
    architecture, weights = recognise(source, SHAPE)
    assert [block.key for block in architecture.blocks[1:3]] == [
        "dense_layer k3 s1 e4 8>12 @32 relu",
        "transition k2 s2 e1 12>8 @32 relu",
    ]
    verify(source, loaded(architecture, weights), SHAPE, "mine")
    other = recognise(Head(Dense(input_first=False)), SHAPE).architecture
    assert [block.op for block in other.blocks[1:3]] == ["piece", "transition"]


def test_other_shuffles_are_refused() -> None:
    with pytest.raises(UsageError, match=r"middle\.0\.shuffle \(ChannelShuffle\) is no layer"):
        recognise(Head(ShuffleUnit(groups=4)), SHAPE)
