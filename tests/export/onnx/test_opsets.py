"""ONNX files of every opset from 13 on, and with a dynamic batch."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from hwnas.errors import ExportError
from hwnas.export.compile import compile_model
from hwnas.export.graph.trace import trace
from hwnas.export.onnx.emitter import write_onnx
from hwnas.export.recipe import onnx_recipe
from hwnas.export.verification.images import Verification
from hwnas.export.verification.metrics import relative_error
from hwnas.export.verification.verify import torch_outputs
from tests.export.lowering.test_ops import ChannelsLast, shuffled
from tests.export.test_parity import FLOAT32_ERROR, Function, randomise

NEWEST = min(onnx.defs.onnx_opset_version(), 26)
"""The newest opset that ONNX Runtime 1.32 supports."""


class Everything(nn.Module):
    """Operations that changed between opsets, or that a dynamic batch could break."""

    def __init__(self) -> None:
        super().__init__()
        self.block, self.gelu = ChannelsLast(), nn.GELU("tanh")
        self.norm, self.head = nn.LayerNorm(4), nn.Linear(4, 3)

    def forward(self, x: Tensor) -> Tensor:
        y = F.pad(shuffled(self.block(F.hardswish(x))), (0, 1, 1, 0))
        y = (
            F.interpolate(self.gelu(y), (9, 5), mode="bilinear")
            * y.mean((1, 2), keepdim=True)[..., :5]
        )
        pooled = y.mean((2, 3))
        return self.head(self.norm(pooled.view(-1, 4, 1, 1).flatten(1) + pooled))


def outputs(path: Path, images: Any) -> Any:
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 4
    session = onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])
    return session.run(None, {"images": images})[0]


@pytest.mark.parametrize("opset", range(13, NEWEST + 1))
def test_every_opset_gives_the_outputs_of_pytorch(opset: int, tmp_path: Path) -> None:
    module = randomise(Everything())
    images = np.random.default_rng(0).normal(0, 2, (3, 4, 6, 7)).astype(np.float32)
    graph = trace(module, (4, 6, 7))
    write_onnx(graph, tmp_path / "net.onnx", opset=opset)
    model = onnx.load(tmp_path / "net.onnx")
    assert model.opset_import[0].version == opset
    got = np.concatenate([outputs(tmp_path / "net.onnx", image[None]) for image in images])
    assert relative_error(got, torch_outputs(module, images)) < FLOAT32_ERROR


def test_a_dynamic_batch_accepts_any_number_of_images(tmp_path: Path) -> None:
    module = randomise(Everything())
    write_onnx(trace(module, (4, 6, 7)), tmp_path / "net.onnx", opset=18, dynamic_batch=True)
    for count in (1, 5):
        images = np.random.default_rng(count).normal(0, 2, (count, 4, 6, 7)).astype(np.float32)
        got = outputs(tmp_path / "net.onnx", images)
        assert got.shape == (count, 3)
        assert relative_error(got, torch_outputs(module, images)) < FLOAT32_ERROR


def test_a_network_that_mixes_images_cannot_have_a_dynamic_batch(tmp_path: Path) -> None:
    mixed = Function(lambda x: (x + torch.flip(x, [0])).mean((2, 3)))
    images = Verification(np.random.default_rng(0).normal(size=(3, 4, 6, 7)).astype(np.float32))
    recipe = onnx_recipe("fp32", None, dynamic_batch=True)
    with pytest.raises(ExportError, match=r"two images at once|cannot be dynamic"):
        compile_model(mixed, (4, 6, 7), tmp_path / "net.onnx", verification=images, recipe=recipe)
    assert not list(tmp_path.iterdir())
    compile_model(mixed, (4, 6, 7), tmp_path / "net.onnx", verification=images)


def test_operations_without_a_dynamic_batch_are_refused(tmp_path: Path) -> None:
    joined = Function(lambda x: torch.cat((x, x.new_zeros(1, 2, 6, 7)), 1))
    with pytest.raises(ExportError, match="a constant cannot be concatenated"):
        write_onnx(trace(joined, (4, 6, 7)), tmp_path / "net.onnx", dynamic_batch=True)
    assert not list(tmp_path.iterdir())
