"""ConvNeXt is recognised, and nothing that resembles it."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from hwnas.errors import UsageError
from hwnas.pretrained.network import PretrainedNetwork, loaded
from hwnas.pretrained.recognise.network import recognise
from hwnas.pretrained.sources import Preprocessing
from tests.support.networks.convolutions import Head
from tests.support.networks.trained import noise, torchvision_network

SHAPE = (3, 64, 64)


def convnext_tiny() -> nn.Module:
    """Return torchvision's network with random biases and scales."""
    source = torchvision_network("convnext_tiny")
    generator = torch.Generator().manual_seed(0)
    for name, parameter in source.named_parameters():
        if parameter.ndim == 1 or name.endswith("layer_scale"):
            parameter.data.normal_(0.5, 0.3, generator=generator)
    return source.double()


def test_the_logits_are_those_of_torchvision() -> None:
    source = convnext_tiny()
    architecture, weights = recognise(source, SHAPE)
    assert [block.key for block in architecture.blocks[:8]] == [
        "conv_bn k4 s4 e1 3>96 @64",
        "layer_norm k1 s1 e1 96>96 @16",
        *["convnext k7 s1 e4 96>96 @16 gelu"] * 3,
        "layer_norm k1 s1 e1 96>96 @16",
        "conv_bn k2 s2 e1 96>192 @16",
        "convnext k7 s1 e4 192>192 @8 gelu",
    ]
    images = noise(SHAPE).double()
    with torch.inference_mode():
        expected, logits = source(images), loaded(architecture, weights)(images)
    assert (logits - expected).abs().max() < 1e-12 * expected.abs().max()


def test_grey_images_give_the_logits_of_equal_colours() -> None:
    source = convnext_tiny()
    architecture, weights = recognise(source, SHAPE)
    preprocessing = Preprocessing(64, 64, mean=(0.5,) * 3, std=(0.25,) * 3)
    network = PretrainedNetwork("convnext", architecture, weights, preprocessing, "")
    grey = noise((1, 64, 64)).double()
    with torch.inference_mode():
        expected = source(grey.expand(-1, 3, -1, -1))
        torch.testing.assert_close(network.at((1, 64, 64)).network()(grey), expected)


class Block(nn.Module):
    """A block of ConvNeXt with channels last, or one that differs from it in a detail."""

    def __init__(
        self, eps: float = 1e-6, approximate: str = "none", scaled: bool = True, last: bool = True
    ) -> None:
        super().__init__()
        self.depthwise = nn.Conv2d(8, 8, 7, padding=3, groups=8)
        self.norm = nn.LayerNorm(8, eps)
        self.mlp = nn.Sequential(nn.Linear(8, 24), nn.GELU(approximate), nn.Linear(24, 8))
        self.gamma = nn.Parameter(torch.rand(8)) if scaled else None
        self.last = last

    def forward(self, x: Tensor) -> Tensor:
        y = self.depthwise(x)
        y = y.permute(0, 2, 3, 1) if self.last else y.permute(0, 3, 2, 1)
        y = self.mlp(self.norm(y)).permute(0, 3, 1, 2)
        return x + (y if self.gamma is None else y.mul(self.gamma.reshape(1, -1, 1, 1)))


@pytest.mark.parametrize("scaled", [True, False])
def test_a_block_may_have_a_scale(scaled: bool) -> None:
    torch.manual_seed(0)
    source = Head(Block(scaled=scaled)).eval()
    architecture, weights = recognise(source, SHAPE)
    assert architecture.blocks[1].key == "convnext k7 s1 e3 8>8 @32 gelu"
    images = noise(SHAPE)
    with torch.inference_mode():
        torch.testing.assert_close(loaded(architecture, weights)(images), source(images))


@pytest.mark.parametrize(
    ("other", "steps"),
    [
        (Block(1e-2), "conv 8 k7 p3 g8 bias / layer_norm v0.01 / conv"),
        (Block(approximate="tanh"), "/ layer_norm v1e-06 / conv 24 bias / gelu_tanh / conv 8 bias"),
    ],
)
def test_a_block_with_other_layers_is_a_piece(other: nn.Module, steps: str) -> None:
    torch.manual_seed(0)
    source = Head(other).eval()
    architecture, weights = recognise(source, SHAPE)
    assert steps in architecture.blocks[1].piece
    images = noise(SHAPE)
    with torch.inference_mode():
        torch.testing.assert_close(loaded(architecture, weights)(images), source(images))


def test_a_block_that_exchanges_rows_and_columns_is_refused() -> None:
    with pytest.raises(UsageError, match=r"Head: permute.* is no layer that hwnas rebuilds"):
        recognise(Head(Block(last=False)), SHAPE)


def test_a_block_with_one_scale_for_all_channels_is_a_piece() -> None:
    module = Block()
    module.gamma = nn.Parameter(torch.tensor([0.5]))
    source = Head(module).eval()
    architecture, weights = recognise(source, SHAPE)
    assert architecture.blocks[1].piece.endswith("scale 1 / add from 0 6")
    images = noise(SHAPE)
    with torch.inference_mode():
        torch.testing.assert_close(loaded(architecture, weights)(images), source(images))


class Gated(nn.Module):
    """Multiplies feature maps with a parameter where no block of ConvNeXt is."""

    def __init__(self) -> None:
        super().__init__()
        self.gain = nn.Parameter(torch.ones(8, 1, 1))

    def forward(self, x: Tensor) -> Tensor:
        return x * self.gain


def test_a_scale_alone_is_a_piece() -> None:
    source = Head(Gated()).eval()
    architecture, weights = recognise(source, SHAPE)
    assert architecture.blocks[1].key == "piece k1 s1 e1 8>8 @32 = scale"
    images = noise(SHAPE)
    with torch.inference_mode():
        assert torch.equal(loaded(architecture, weights)(images), source(images))
