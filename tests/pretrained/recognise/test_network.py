"""Modules of others, rebuilt from blocks of hwnas, give the same logits."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn
from torchvision.models import get_model

from hwnas.errors import UsageError
from hwnas.pretrained.network import loaded
from hwnas.pretrained.recognise.network import recognise, verify
from tests.support.networks.convolutions import Head, conv, depthwise_unit, unit
from tests.support.networks.trained import noise, randomise, torchvision_network

SHAPE = (3, 64, 64)


@pytest.mark.parametrize(
    "name", ["mobilenet_v2", "mnasnet1_0", "mnasnet0_5", "densenet121", "shufflenet_v2_x0_5"]
)
def test_a_chain_of_the_same_layers_gives_equal_bits(name: str) -> None:
    source = torchvision_network(name)
    architecture, weights = recognise(source, SHAPE, name)
    images = noise(SHAPE)
    with torch.inference_mode():
        assert torch.equal(loaded(architecture, weights)(images), source(images))
    assert architecture.params == sum(p.numel() for p in source.parameters())


@pytest.mark.parametrize(
    "name",
    [
        "mobilenet_v3_small",
        "mobilenet_v3_large",
        "efficientnet_b0",
        "resnet18",
        "resnet50",
        "resnext50_32x4d",
        "regnet_x_400mf",
        "regnet_y_400mf",
    ],
)
def test_other_networks_of_torchvision_differ_by_rounding_at_most(name: str) -> None:
    source = torchvision_network(name)
    architecture, weights = recognise(source, SHAPE, name)
    images = noise(SHAPE)
    with torch.inference_mode():
        expected, logits = source(images), loaded(architecture, weights)(images)
    assert (logits - expected).abs().max() < 1e-6 * expected.abs().max()
    assert architecture.params == sum(p.numel() for p in source.parameters())
    eps = {module.eps for module in source.modules() if isinstance(module, nn.BatchNorm2d)}
    assert {architecture.norm_eps} == eps


def test_blocks_of_resnet_are_basic_ones_and_bottlenecks() -> None:
    blocks: dict[str, list[str]] = {}
    for name in ("resnet18", "resnet50", "regnet_y_400mf"):
        source = get_model(name, weights=None)
        architecture = recognise(source, (3, 224, 224)).architecture
        blocks[name] = [block.key for block in architecture.blocks]
    assert blocks["resnet18"][:3] == [
        "conv k7 s2 e1 3>64 @224 relu",
        "max_pool k3 s2 e1 64>64 @112",
        "basic k3 s1 e1 64>64 @56 relu",
    ]
    assert blocks["resnet18"][4] == "basic k3 s2 e2 64>128 @56 relu"
    assert blocks["regnet_y_400mf"][:3] == [
        "conv k3 s2 e1 3>32 @224 relu",
        "bottleneck k3 s2 e1.5 32>48 @112 g8 se8 sigmoid relu",
        "bottleneck k3 s2 e2.16667 48>104 @56 g8 se12 sigmoid relu",
    ]
    assert blocks["resnet50"][2:4] == [
        "bottleneck k3 s1 e1 64>256 @56 relu",
        "bottleneck k3 s1 e0.25 256>256 @56 relu",
    ]


def ops(source: nn.Module) -> list[str]:
    """Return the operations of the blocks that ``source`` is read as, and compare the logits."""
    architecture, weights = recognise(source.eval(), SHAPE)
    verify(source, loaded(architecture, weights), SHAPE, "mine")
    return [block.op for block in architecture.blocks]


class Bottleneck(nn.Module):
    """A bottleneck whose projection of the input comes first, or that lacks a part."""

    def __init__(self, stride: int = 1, activation: bool = True, projection_stride: int = 1):
        super().__init__()
        self.side = unit(8, 8, 1, projection_stride)
        self.layers = nn.Sequential(
            *unit(8, 4, 1), nn.ReLU(), *unit(4, 4, 3, stride), nn.ReLU(), *unit(4, 8, 1)
        )
        self.act = nn.ReLU() if activation else nn.Identity()

    def forward(self, x: Tensor) -> Tensor:
        return self.act(self.layers(x) + self.side(x))


class Downsampling(nn.Module):
    """A basic block of ResNet-D, whose shortcut averages pixels before its convolution."""

    def __init__(self, window: int = 2, counts_padding: bool = False) -> None:
        super().__init__()
        self.layers = nn.Sequential(*unit(8, 12, 3, 2), nn.ReLU(), *unit(12, 8, 3))
        pool = nn.AvgPool2d(window, 2, ceil_mode=True, count_include_pad=counts_padding)
        self.side = nn.Sequential(pool, *unit(8, 8, 1))

    def forward(self, x: Tensor) -> Tensor:
        return torch.relu(self.layers(x) + self.side(x))


def test_shortcuts_of_resnet_d_average_pixels() -> None:
    source = randomise(Head(Downsampling())).eval()
    for size in (64, 66):  # 66: an odd map of 33 pixels
        shape = (3, size, size)
        architecture, weights = recognise(source, shape)
        assert architecture.blocks[1].key == f"basic_d k3 s2 e1.5 8>8 @{size // 2} relu"
        verify(source, loaded(architecture, weights), shape, "mine")
    for other in (Downsampling(window=3), Downsampling(counts_padding=True)):
        assert ops(randomise(Head(other))) == ["conv", "piece", "logits"]


class Universal(nn.Module):
    """A universal inverted bottleneck of MobileNetV4: depthwise before or after the expansion.

    A scaled one has no norm at its end, but a bias and a factor of each channel, as in FastViT.
    """

    def __init__(
        self, start: int, middle: int, stride: int = 1, inner: int = 24, scaled: bool = False
    ) -> None:
        super().__init__()
        first = stride if not middle else 1
        self.start = depthwise_unit(8, start, first) if start else nn.Identity()
        self.expand = nn.Sequential(*unit(8, inner, 1), nn.ReLU())
        middle_layers = (*depthwise_unit(inner, middle, stride), nn.ReLU()) if middle else ()
        self.middle = nn.Sequential(*middle_layers)
        self.project = nn.Conv2d(inner, 8, 1) if scaled else unit(inner, 8, 1)
        self.gain = nn.Parameter(torch.rand(8, 1, 1)) if scaled else None
        self.adds = stride == 1

    def forward(self, x: Tensor) -> Tensor:
        y = self.project(self.middle(self.expand(self.start(x))))
        y = y if self.gain is None else y * self.gain
        return x + y if self.adds else y


@pytest.mark.parametrize(
    ("module", "key"),
    [
        (Universal(5, 3), "uib k3 s1 e3 8>8 @32 a5 relu"),
        (Universal(3, 5, stride=2), "uib k5 s2 e3 8>8 @32 a3 relu"),
        (Universal(3, 0), "uib k1 s1 e3 8>8 @32 a3 relu"),
        (Universal(5, 0, stride=2), "uib k1 s2 e3 8>8 @32 a5 relu"),
        (Universal(7, 0, scaled=True), "uib k1 s1 e3 8>8 @32 a7 relu"),
        (Universal(0, 3), "mbconv k3 s1 e3 8>8 @32 relu"),
        (Universal(0, 3, inner=8), "uib k3 s1 e1 8>8 @32 relu"),
        (
            nn.Sequential(*depthwise_unit(8, 5, 2), nn.ReLU(), *unit(8, 8, 1), nn.ReLU()),
            "depthwise_separable k5 s2 e1 8>8 @32 relu",
        ),
    ],
    ids=lambda value: value.replace(" ", "-") if isinstance(value, str) else "",
)
def test_universal_bottlenecks_and_separable_convolutions_are_blocks(
    module: nn.Module, key: str
) -> None:
    source = randomise(Head(module)).eval()
    architecture, weights = recognise(source, SHAPE)
    assert architecture.blocks[1].key == key
    images = noise(SHAPE)
    with torch.inference_mode():
        expected, logits = source(images), loaded(architecture, weights)(images)
    # a bias becomes the mean of a norm, which is rounded
    scaled = isinstance(module, Universal) and module.gain is not None
    assert torch.allclose(logits, expected) if scaled else torch.equal(logits, expected)


def test_a_convolution_behind_the_global_pool_is_part_of_the_head() -> None:
    pool = nn.AdaptiveAvgPool2d(1)
    source = randomise(Head(pool, *unit(8, 8, 1), nn.ReLU())).eval()
    architecture, weights = recognise(source, SHAPE)
    keys = [block.key for block in architecture.blocks[1:3]]
    assert keys == ["global_pool k1 s1 e1 8>8 @32", "conv k1 s1 e1 8>8 @1 relu"]
    images = noise(SHAPE)
    with torch.inference_mode():
        torch.testing.assert_close(loaded(architecture, weights)(images), source(images))


def test_a_projection_where_the_shapes_are_equal_is_a_fixed_piece() -> None:
    strided = randomise(Head(Bottleneck(stride=2, projection_stride=2)))
    assert ops(strided) == ["conv", "bottleneck", "logits"]
    for other in (Bottleneck(), Bottleneck(stride=2, projection_stride=2, activation=False)):
        assert ops(randomise(Head(other))) == ["conv", "piece", "logits"]


def test_the_blocks_are_those_of_the_paper() -> None:
    with torch.device("meta"):
        source = get_model("mobilenet_v2", weights=None)
    blocks = [block.key for block in recognise(source, (3, 224, 224)).architecture.blocks]
    assert blocks[:4] == [
        "conv k3 s2 e1 3>32 @224",
        "mbconv k3 s1 e1 32>16 @112",
        "mbconv k3 s2 e6 16>24 @112",
        "mbconv k3 s1 e6 24>24 @56",
    ]
    assert blocks[-2:] == ["conv k1 s1 e1 320>1280 @7", "logits k1 s1 e1 1280>1000 @7"]
    assert len(blocks) == 20


@pytest.mark.parametrize(
    ("middle", "blocks"),
    [
        ([nn.GELU()], ["gelu"]),
        ([nn.AvgPool2d(2)], ["avg_pool k2 s2 padded"]),
        ([conv(dilation=2), nn.ReLU()], ["conv 8 k3 p2 d2 / relu"]),
        ([conv(), nn.BatchNorm2d(8)], ["conv_bn k3 s1 e1 8>8 @32"]),
        ([conv(groups=4), nn.BatchNorm2d(8), nn.ReLU()], ["conv 8 k3 p1 g4 / norm / relu"]),
        (
            [conv(5, 2, bias=True), nn.BatchNorm2d(8), nn.ReLU()],
            ["conv 8 k5 p4 d2 bias / norm / relu"],
        ),
        ([conv(), nn.BatchNorm2d(8), nn.Sigmoid()], ["conv 8 k3 p1 / norm / sigmoid"]),
    ],
)
def test_layers_that_are_no_blocks_are_pieces(middle: list[nn.Module], blocks: list[str]) -> None:
    source = randomise(Head(*middle))
    architecture, weights = recognise(source, SHAPE)
    assert [block.piece or block.key for block in architecture.blocks[1:-1]] == blocks
    verify(source, loaded(architecture, weights), SHAPE, "mine")


@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize("norm", [nn.BatchNorm2d(8), nn.Identity()])
def test_convolutions_with_a_bias_or_without_a_norm_are_blocks(bias: bool, norm: nn.Module) -> None:
    pool = nn.MaxPool2d(2)
    source = randomise(Head(conv(5, bias=bias), norm, nn.ReLU(), pool)).eval()
    architecture, weights = recognise(source, SHAPE)
    assert [block.key for block in architecture.blocks[1:3]] == [
        "conv k5 s1 e1 8>8 @32 relu",
        "max_pool k2 s2 e1 8>8 @32",
    ]
    verify(source, loaded(architecture, weights), SHAPE, "mine")


class Branching(Head):
    """Takes another output of the stem than the last one."""

    def forward(self, x: Tensor) -> Tensor:
        y = self.stem[1](self.stem[0](x))
        return self.fc(self.middle(self.stem[2](y) * 1.0 + y).mean((2, 3)))


def test_a_value_that_skips_layers_makes_them_a_piece() -> None:
    source = randomise(Branching())
    [block, _] = recognise(source, SHAPE).architecture.blocks
    assert block.piece == "conv 8 k3 s2 p1 / norm / relu / times v1.0 / add from 4 2"
    assert ops(source) == ["piece", "logits"]


def test_weights_that_evaluation_does_not_use_are_left_out() -> None:
    module = Head()
    module.spare = nn.Linear(2, 2)
    module.scale = nn.Parameter(torch.ones(1))
    assert not {"spare", "scale"} & {*recognise(module, SHAPE).weights}
    assert ops(randomise(module)) == ["conv", "logits"]


def test_functions_and_methods_are_layers_too() -> None:
    class Functional(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.conv, self.norm = nn.Conv2d(3, 8, 3, 2, 1, bias=False), nn.BatchNorm2d(8)
            self.fc = nn.Linear(8, 2)

        def forward(self, x: Tensor) -> Tensor:
            y = torch.relu(self.norm(self.conv(x)))
            y = nn.functional.adaptive_avg_pool2d(y, 1)
            return self.fc(nn.functional.dropout(torch.flatten(y, 1), training=self.training))

    source = randomise(Functional())
    architecture, weights = recognise(source, SHAPE)
    images = noise(SHAPE)
    with torch.inference_mode():
        assert torch.equal(loaded(architecture, weights)(images), source(images))


def test_the_convolution_that_takes_the_image_is_checked_wherever_it_is_registered() -> None:
    network = Head(conv(), nn.BatchNorm2d(8), nn.ReLU())
    stem = network.stem
    del network.stem
    network.stem = stem  # now the last of the modules
    assert recognise(network, SHAPE).architecture.input_shape == SHAPE
    with pytest.raises(UsageError, match="first convolution takes 3 channels, the images have 1"):
        recognise(network, (1, 64, 64))


@pytest.mark.parametrize("name", ["seresnet18", "seresnext26d_32x4d"])
def test_squeeze_excites_at_the_end_of_a_branch_give_equal_bits(name: str) -> None:
    timm = pytest.importorskip("timm")
    torch.manual_seed(0)
    source = randomise(timm.create_model(name))
    architecture, weights = recognise(source, SHAPE, name)
    assert {"basic_se", "bottleneck_se"} & {block.op for block in architecture.blocks}
    images = noise(SHAPE)
    with torch.inference_mode():
        assert torch.equal(loaded(architecture, weights)(images), source(images))
    assert architecture.params == sum(p.numel() for p in source.parameters())
