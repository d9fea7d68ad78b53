"""Networks of torchvision, rebuilt from blocks, are compiled to both formats."""

from __future__ import annotations

from pathlib import Path

import pytest

from hwnas.export.compile import export_module
from hwnas.pretrained.modules import from_module
from tests.support.trained import torchvision_network


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
