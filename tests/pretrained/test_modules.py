"""Networks of torchvision, rebuilt from blocks, are compiled to both formats."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from hwnas.export.compile import export_module
from hwnas.pretrained.modules import from_module
from tests.support.networks.convolutions import Head, unit
from tests.support.networks.trained import noise, randomise, torchvision_network


@pytest.mark.parametrize("suffix", [".onnx", ".tflite"])
@pytest.mark.parametrize("name", ["mobilenet_v3_small", "efficientnet_b0", "resnet18"])
def test_a_network_of_torchvision_is_compiled_from_its_blocks(
    tmp_path: Path, name: str, suffix: str
) -> None:
    shape = (3, 32, 32)
    network = from_module(torchvision_network(name, num_classes=5), shape, name)
    artifact = export_module(
        network.network(), shape, tmp_path / f"{name}{suffix}", architecture=network.architecture
    )
    assert artifact.parity is not None and artifact.parity.max_relative_error < 1e-5


class Branches(nn.Module):
    """A 3x3 and a 1x1 convolution with their norms, which can become one convolution."""

    def __init__(self) -> None:
        super().__init__()
        self.large, self.small = unit(8, 8, 3), unit(8, 8, 1)
        self.merged: nn.Conv2d | None = None

    def forward(self, x: Tensor) -> Tensor:
        y = self.large(x) + self.small(x) if self.merged is None else self.merged(x)
        return torch.relu(y)

    def reparameterize(self) -> None:
        merged: Any = nn.Conv2d(8, 8, 3, padding=1)
        merged.weight.data.zero_()
        merged.bias.data.zero_()
        parts: list[Any] = [(*self.large, 0), (*self.small, 1)]
        for conv, norm, border in parts:
            scale = norm.weight / (norm.running_var + norm.eps).sqrt()
            kernel = nn.functional.pad(conv.weight * scale[:, None, None, None], [border] * 4)
            merged.weight.data += kernel
            merged.bias.data += norm.bias - norm.running_mean * scale
        del self.large, self.small
        self.merged = merged


def test_branches_are_merged_where_their_module_can_do_so() -> None:
    shape = (3, 64, 64)
    branches = Branches()
    source = randomise(Head(branches)).eval()
    network = from_module(source, shape, "mine")
    assert [block.op for block in network.architecture.blocks] == ["double_conv", "logits"]
    assert branches.merged is None
    images = noise(shape)
    with torch.inference_mode():
        torch.testing.assert_close(network.network()(images), source(images))


class Sampling(nn.Module):
    """Has a method of an autoencoder, which is called as the one that merges branches."""

    def reparameterize(self, mean: Tensor, deviation: Tensor) -> Tensor:
        return mean + deviation * torch.randn_like(deviation)

    def forward(self, x: Tensor) -> Tensor:
        return x


def test_a_method_that_needs_arguments_merges_no_branches() -> None:
    source = randomise(Head(Sampling())).eval()
    images = noise((3, 64, 64))
    network = from_module(source, (3, 64, 64), "mine").network()
    with torch.inference_mode():
        torch.testing.assert_close(network(images), source(images))
