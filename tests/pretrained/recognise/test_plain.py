"""Networks without shortcuts: pairs of convolutions, any padding, hidden layers of many pixels."""

from __future__ import annotations

import msgspec
import pytest
import torch
from torch import Tensor, nn

from hwnas.errors import UsageError
from hwnas.pretrained.network import PretrainedNetwork, loaded
from hwnas.pretrained.recognise.network import recognise
from hwnas.pretrained.sources import Preprocessing
from hwnas.spaces.elastic.space import elastic_space
from tests.support.networks.convolutions import Head, unit
from tests.support.networks.trained import noise, randomise, torchvision_network

SHAPE = (3, 64, 64)


def keys(module: nn.Module) -> list[str]:
    return [block.key for block in recognise(module, SHAPE).architecture.blocks]


@pytest.mark.parametrize("name", ["vgg11", "vgg13_bn", "alexnet"])
def test_the_logits_of_vgg_and_alexnet_are_torchvisions(name: str) -> None:
    source = torchvision_network(name).double()
    architecture, weights = recognise(source, SHAPE, name)
    images = noise(SHAPE).double()
    with torch.inference_mode():
        expected, logits = source(images), loaded(architecture, weights)(images)
    assert (logits - expected).abs().max() < 1e-9 * expected.abs().max()


def test_the_blocks_of_alexnet_are_those_of_the_module() -> None:
    source = torchvision_network("alexnet")
    architecture = recognise(source, (3, 224, 224)).architecture
    assert [block.key for block in architecture.blocks] == [
        "conv k11 s4 e1 3>64 @224 relu pad2",
        "max_pool k3 s2 e1 64>64 @55 pad0",
        "conv k5 s1 e1 64>192 @27 relu",
        "max_pool k3 s2 e1 192>192 @27 pad0",
        "double_conv k3 s1 e2 192>256 @13 relu",
        "conv k3 s1 e1 256>256 @13 relu",
        "max_pool k3 s2 e1 256>256 @13 pad0",
        "hidden k6 s1 e1 256>4096 @6 relu",
        "hidden k1 s1 e1 4096>4096 @1 relu",
        "logits k1 s1 e1 4096>1000 @1",
    ]


def convs(*shapes: tuple[int, int, int, int]) -> nn.Sequential:
    """Return convolutions of inputs, outputs, kernel size and stride, with norm and ReLU."""
    layers = [nn.Sequential(*unit(*shape), nn.ReLU()) for shape in shapes]
    return nn.Sequential(*layers)


def test_two_equal_convolutions_in_a_row_are_a_block_and_a_third_is_single() -> None:
    middle = convs((8, 12, 3, 1), (12, 16, 3, 1), (16, 8, 3, 1), (8, 8, 5, 1), (8, 8, 3, 2))
    source = randomise(Head(*middle)).eval()
    assert keys(source)[:-1] == [
        "double_conv k3 s2 e2.66667 3>12 @64 relu",
        "double_conv k3 s1 e1.33333 12>8 @32 relu",
        "conv k5 s1 e1 8>8 @32 relu",
        "conv k3 s2 e1 8>8 @32 relu",
    ]


def test_a_convolution_that_begins_a_larger_block_is_in_no_pair() -> None:
    fused = nn.Sequential(*unit(12, 18, 3), nn.ReLU(), *unit(18, 8, 1))
    assert keys(Head(*convs((8, 8, 5, 1), (8, 12, 3, 1)), fused))[2:4] == [
        "conv k3 s1 e1 8>12 @32 relu",
        "fused_mbconv k3 s1 e1.5 12>8 @32 relu",
    ]


class Flattened(nn.Module):
    """A network whose hidden layer takes all pixels of the last feature map."""

    def __init__(self, hidden: int = 8 * 4 * 4) -> None:
        super().__init__()
        self.features = nn.Sequential(nn.Conv2d(3, 8, 5, 4), nn.ReLU(), nn.MaxPool2d(4, 4, 1))
        self.classifier = nn.Sequential(nn.Linear(hidden, 6), nn.ReLU(), nn.Linear(6, 2))

    def forward(self, x: Tensor) -> Tensor:
        return self.classifier(self.features(x).flatten(1))


def test_a_hidden_layer_may_take_all_pixels_and_convolutions_may_have_any_padding() -> None:
    source = randomise(Flattened())
    architecture, weights = recognise(source, SHAPE)
    assert [block.key for block in architecture.blocks] == [
        "conv k5 s4 e1 3>8 @64 relu pad0",
        "max_pool k4 s4 e1 8>8 @15 pad1",
        "hidden k4 s1 e1 8>6 @4 relu",
        "logits k1 s1 e1 6>2 @1",
    ]
    images = noise(SHAPE)
    with torch.inference_mode():
        torch.testing.assert_close(loaded(architecture, weights)(images), source(images))
    with pytest.raises(UsageError, match=r"classifier\.0 \(linear layer of 16 feat"):
        recognise(Flattened(hidden=16), SHAPE)


def test_images_of_which_no_pixel_remains_are_refused_and_are_no_resolution_of_the_space() -> None:
    source = torchvision_network("alexnet")
    architecture = recognise(source, (3, 112, 112)).architecture
    sizes = elastic_space("alexnet", architecture).sizes
    assert sizes[0] == 112 and sizes[-1] == 64  # 63 px leave one pixel for the last pool
    with pytest.raises(UsageError, match=r"images of 56 px are too small.* remains of max_p"):
        recognise(source, (3, 56, 56))


def test_the_stem_of_a_pair_takes_grey_images() -> None:
    source = randomise(Head(*convs((8, 8, 3, 1)))).eval()
    architecture, weights = recognise(source, SHAPE)
    assert architecture.blocks[0].op == "double_conv"
    preprocessing = Preprocessing(64, 64, mean=(0.5,) * 3, std=(0.25,) * 3)
    network = PretrainedNetwork("pair", architecture, weights, preprocessing, "")
    grey = noise((1, 64, 64))
    with torch.inference_mode():
        expected = source(grey.expand(-1, 3, -1, -1))
        torch.testing.assert_close(network.at((1, 64, 64)).network()(grey), expected)


def test_inner_channels_of_pairs_are_cut() -> None:
    architecture = recognise(torchvision_network("vgg11"), (3, 32, 32)).architecture
    space = elastic_space("vgg11", architecture)
    assert [architecture.blocks[place].op for place in space.elastic] == ["double_conv"] * 3
    smallest = space.architecture(space.smallest)
    widths = [block.mid_channels for block in smallest.blocks if block.op == "double_conv"]
    assert widths == [128, 256, 256]
    assert msgspec.structs.replace(smallest.blocks[4], expand_ratio=2) == architecture.blocks[4]
