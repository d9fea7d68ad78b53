"""Layers that lose accuracy in int8 are found, named, and left in float32."""

from __future__ import annotations

from pathlib import Path

import msgspec
import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import nn

from hwnas.architecture.artifact import Format
from hwnas.export.compile import compile_model
from hwnas.export.graph.trace import trace
from hwnas.export.quantization.float_layers import AUTO, with_float_layers
from hwnas.export.quantization.ptq import Int8, int8_quantization, quantize
from hwnas.export.quantization.sensitivity import (
    FloatModel,
    accuracy_drop,
    layer_noise,
    select_float_layers,
    value_noise_db,
)
from hwnas.export.verification.images import Verification
from hwnas.export.verification.rounding import TooMuchLoss
from hwnas.export.verification.verify import torch_outputs

pytest.importorskip("ai_edge_quantizer")

both = pytest.mark.parametrize("format", ["onnx", "tflite"])


class Unquantisable(nn.Module):
    """A network whose second layer has a huge weight, for a channel that is always zero."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.first, self.second = nn.Conv2d(1, 8, 3, 2, 1), nn.Conv2d(8, 8, 1)
        self.third, self.head = nn.Conv2d(8, 8, 3, 2, 1), nn.Linear(8, 3)
        with torch.no_grad():
            self.first.weight[0], self.first.bias[0] = 0, -1.0  # type: ignore[index]
            self.second.weight[:, 0] = 300.0

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        value = self.second(F.relu(self.first(images)))
        return self.head(F.relu(self.third(F.relu(value))).mean((2, 3)))


class UnevenChannels(nn.Module):
    """A depthwise layer whose channels differ by a factor of 3000, which the next layer undoes."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.first, self.depthwise = nn.Conv2d(1, 8, 3, 2, 1), nn.Conv2d(8, 8, 3, 1, 1, groups=8)
        self.mix, self.third, self.head = nn.Conv2d(8, 8, 1), nn.Conv2d(8, 8, 3), nn.Linear(8, 3)
        factor = torch.logspace(-1.75, 1.75, 8)
        with torch.no_grad():
            self.depthwise.weight *= factor[:, None, None, None]
            self.depthwise.bias *= factor  # type: ignore[operator]
            self.mix.weight /= factor[:, None, None]

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        value = F.relu(self.mix(F.relu(self.depthwise(F.relu(self.first(images))))))
        return self.head(F.relu(self.third(value)).mean((2, 3)))


def centred(network: nn.Module) -> tuple[nn.Module, np.ndarray]:
    """Return the network with all classes predicted equally often, and images."""
    images = np.random.default_rng(0).normal(size=(96, 1, 12, 12)).astype(np.float32)
    head = network.eval().head
    assert isinstance(head, nn.Linear)
    head.bias.data -= torch.from_numpy(np.median(torch_outputs(network, images), axis=0))
    return network, images


@both
def test_the_layer_that_cannot_be_quantised_stays_in_float(format: Format, tmp_path: Path) -> None:
    network, images = centred(Unquantisable())
    model = FloatModel(network, (1, 12, 12), format, Int8(images[:32]))
    source, target = tmp_path / f"float.{format}", tmp_path / f"int8.{format}"
    compile_model(network, (1, 12, 12), source)
    quantize(source, target, model.int8)
    noise = layer_noise(trace(network, (1, 12, 12)), value_noise_db(source, target, [images]))
    assert noise[0].layer == "second" and noise[0].lost_db > noise[1].lost_db + 6
    verification = Verification(images)
    assert accuracy_drop(model, verification) > 0.1
    assert select_float_layers(model, verification, 0.1) == ("second",)
    assert accuracy_drop(model, verification, ("second",)) <= 0.1


@both
def test_an_error_names_the_layers_that_would_have_to_stay_in_float(
    format: Format, tmp_path: Path
) -> None:
    network, images = centred(UnevenChannels())
    verification = Verification(images, torch_outputs(network, images).argmax(axis=1))
    settings = msgspec.structs.replace(int8_quantization(format), min_label_agreement=0.95)
    int8 = Int8(images[:32], settings)
    path = tmp_path / f"model.{format}"

    def compiled(layers: tuple[str, ...]) -> tuple[str, ...]:
        with_layers = int8._replace(float_layers=layers)
        artifact = compile_model(
            network, (1, 12, 12), path, verification=verification, int8=with_layers
        )
        return artifact.float_layers

    message = (
        r"model\.\w+: the int8 file .*; with depthwise, mix in float32 it passes: --float-layers"
    )
    with pytest.raises(TooMuchLoss, match=message) as caught:
        compiled(())
    assert caught.value.float_layers == ("depthwise", "mix")
    assert not path.exists()
    assert with_float_layers(AUTO, compiled) == ("depthwise", "mix")
    assert path.exists()
