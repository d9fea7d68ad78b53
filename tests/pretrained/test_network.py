"""Pretrained networks at other resolutions, for other classes and for grey images."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch import nn
from torchvision.models.mobilenetv2 import MobileNetV2

from hwnas.errors import UsageError
from hwnas.pretrained.modules import from_module
from hwnas.pretrained.network import PretrainedNetwork
from hwnas.pretrained.sources import IMAGENET_MEAN, IMAGENET_STD, Preprocessing
from tests.support.networks.trained import noise, small_mobilenet

SHAPE = (3, 64, 64)
PREPROCESSING = Preprocessing(size_px=64, resize_px=72, interpolation="bicubic")


def pretrained(preprocessing: Preprocessing = PREPROCESSING) -> PretrainedNetwork:
    return from_module(small_mobilenet(), SHAPE, "small", preprocessing)


def normalised(pixels: torch.Tensor, preprocessing: Preprocessing) -> torch.Tensor:
    mean, std = (
        torch.tensor(values)[:, None, None] for values in (preprocessing.mean, preprocessing.std)
    )
    return (pixels - mean) / std


def test_networks_share_no_tensors() -> None:
    trained = pretrained()
    first, second = trained.network(), trained.network()
    images = noise(SHAPE)
    before = second(images)
    for parameter in first.parameters():
        parameter.data.zero_()
    assert torch.equal(second(images), before) and not second.training
    assert torch.equal(trained.network()(images), before)


def test_another_resolution_changes_nothing_but_the_image() -> None:
    trained = pretrained()
    smaller = trained.at((3, 32, 32))
    assert smaller.architecture.input_shape == (3, 32, 32)
    assert smaller.preprocessing == Preprocessing(32, 36, "bicubic")
    images = noise((3, 32, 32))
    with torch.inference_mode():
        assert torch.equal(smaller.network()(images), small_mobilenet()(images))


def test_new_classes_replace_the_classifier_only() -> None:
    trained = pretrained()
    other = trained.at(SHAPE, ("cat", "dog", "owl"))
    assert other.classes == ("cat", "dog", "owl") and other.architecture.num_classes == 3
    changed = {key for key in trained.weights if other.weights[key] is not trained.weights[key]}
    last = len(trained.architecture.blocks) - 1
    assert changed == {f"blocks.{last}.linear.weight", f"blocks.{last}.linear.bias"}
    assert other.network()(noise(SHAPE)).tolist() == [[0.0] * 3] * 2


@pytest.mark.parametrize("mean", [(0.5, 0.5, 0.5), IMAGENET_MEAN])
def test_a_grey_network_sees_what_the_colour_network_sees(mean: tuple[float, ...]) -> None:
    """Equal means: exact. Others: exact but for the border, whose padding has another colour."""
    colour = pretrained(Preprocessing(64, 72, mean=mean, std=IMAGENET_STD))
    grey = colour.at((1, 64, 64))
    assert len(grey.preprocessing.mean) == len(grey.preprocessing.std) == 1
    pixels = torch.rand((2, 1, 64, 64), generator=torch.Generator().manual_seed(2))

    def features(network: PretrainedNetwork) -> torch.Tensor:
        stem: nn.Module = network.network().blocks[0]
        return stem(normalised(pixels, network.preprocessing))

    with torch.inference_mode():
        expected, given = features(colour), features(grey)
    inside = slice(None) if len(set(mean)) == 1 else slice(1, -1)
    torch.testing.assert_close(given[..., inside, inside], expected[..., inside, inside])
    assert (given - expected).abs().max() < 0.1 * expected.abs().max()


def test_a_network_takes_images_that_are_normalised_as_anothers() -> None:
    """Exact but for the border, whose padding has another colour."""
    own = pretrained(Preprocessing(64, 72))
    other = own.normalised_as(Preprocessing(64, 72, mean=(0.5,) * 3, std=(0.4, 0.5, 0.6)))
    pixels = torch.rand((2, 3, 64, 64), generator=torch.Generator().manual_seed(2))
    with torch.inference_mode():
        expected, given = (
            network.network().blocks[0](normalised(pixels, network.preprocessing))
            for network in (own, other)
        )
    inside = slice(1, -1)
    torch.testing.assert_close(given[..., inside, inside], expected[..., inside, inside])
    assert not torch.allclose(given, expected)
    with pytest.raises(UsageError, match="takes 3 channels, expected 1"):
        own.normalised_as(Preprocessing(64, 72, mean=(0.5,), std=(0.5,)))


def test_a_grey_network_has_no_colours() -> None:
    grey = pretrained().at((1, 64, 64))
    with pytest.raises(UsageError, match="takes 1 channels, it cannot take 3"):
        grey.at((3, 64, 64))


def test_weights_of_a_module_are_not_its_parameters() -> None:
    module = MobileNetV2(num_classes=3, inverted_residual_setting=[[1, 8, 1, 1]])
    trained = from_module(module, SHAPE, "mine")
    assert not any(tensor.requires_grad for tensor in trained.weights.values())
    assert trained.preprocessing == Preprocessing(64, 73)


@pytest.mark.parametrize("suffix", [".onnx", ".tflite"])
def test_a_pretrained_network_compiles(tmp_path: Path, suffix: str) -> None:
    from hwnas.export.compile import export_module

    trained = pretrained().at((3, 32, 32))
    artifact = export_module(trained.network(), (3, 32, 32), tmp_path / f"net{suffix}")
    assert artifact.parity is not None and artifact.parity.max_relative_error < 1e-4


def test_a_network_that_begins_with_a_pool_keeps_its_colours() -> None:
    module = nn.Sequential(
        nn.MaxPool2d(2),
        nn.Conv2d(3, 8, 3, padding=1, bias=False),
        nn.BatchNorm2d(8),
        nn.ReLU(),
        nn.AdaptiveAvgPool2d(1),
        nn.Flatten(),
        nn.Linear(8, 4),
    )
    trained = from_module(module.eval(), SHAPE, "pooled")
    with pytest.raises(UsageError, match="does not begin with a convolution"):
        trained.at((1, 64, 64))
