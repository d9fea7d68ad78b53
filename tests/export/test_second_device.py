"""Networks on another device are compiled and verified on the CPU and stay where they are."""

from __future__ import annotations

from copy import deepcopy
from pathlib import Path

import pytest
import torch
from torch import nn

from hwnas.export.compile import export_module
from hwnas.export.graph.interface import ModuleInput
from hwnas.export.quantization.qat import quantisation_aware
from hwnas.export.verification.images import noise_inputs
from hwnas.export.verify_file import verify_file
from hwnas.nn.build import build
from tests.support.machines.fake_gpu import NAME, needs_fake_gpu, record_host_reads
from tests.support.tiny import MB33, tiny_space

pytestmark = needs_fake_gpu
SHAPE = (1, 12, 12)


def network() -> nn.Module:
    torch.manual_seed(0)
    space = tiny_space(MB33)
    return build(space.architecture(space.default))


def devices(module: nn.Module) -> set[str]:
    return {value.device.type for value in module.state_dict().values()}


@pytest.mark.parametrize("format", ["onnx", "tflite"])
def test_a_network_on_a_device_gives_the_file_of_the_cpu(tmp_path: Path, format: str) -> None:
    module = network()
    path, same = tmp_path / f"cpu.{format}", tmp_path / f"gpu.{format}"
    export_module(module, SHAPE, path)
    on_gpu = deepcopy(module).to(NAME)
    artifact = export_module(on_gpu, SHAPE, same)
    assert artifact.parity is not None and artifact.parity.label_agreement == 1.0
    assert same.read_bytes() == path.read_bytes()
    assert devices(on_gpu) == {NAME} and on_gpu.training


def test_a_file_is_verified_with_a_network_on_a_device(tmp_path: Path) -> None:
    module, path = network(), tmp_path / "net.onnx"
    export_module(module, SHAPE, path)
    on_gpu = deepcopy(module).to(NAME)
    parity = verify_file(path, on_gpu, noise_inputs([ModuleInput("image", (1, *SHAPE))]))
    assert parity.label_agreement == 1.0 and devices(on_gpu) == {NAME}


def test_quantisation_aware_training_has_the_same_gradients_without_waiting() -> None:
    on_cpu = network()
    on_gpu = deepcopy(on_cpu).to(NAME)
    images = torch.randn(4, *SHAPE, generator=torch.Generator().manual_seed(0))
    results = []
    for module, batch in ((on_cpu, images), (on_gpu, images.to(NAME))):
        with quantisation_aware(module) as rounded, record_host_reads() as reads:
            rounded.train()
            for _ in range(2):
                rounded(batch).square().sum().backward()
            assert reads == []
            assert devices(rounded) == {batch.device.type}
        results.append([parameter.grad for parameter in module.parameters()])
    for ours, theirs in zip(*results, strict=True):
        torch.testing.assert_close(theirs.cpu(), ours)
