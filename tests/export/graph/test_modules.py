"""Networks that are wrapped, compiled or cast by PyTorch compute what their code says."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from hwnas.architecture.artifact import Format
from hwnas.export.compile import export_module
from hwnas.export.graph.modules import evaluating
from hwnas.export.graph.trace import trace
from hwnas.export.verification.images import Verification
from hwnas.export.verification.run_model import file_outputs
from tests.export.test_parity import both

MAP = (3, 8, 8)


def small() -> nn.Sequential:
    torch.manual_seed(0)
    layers = nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.ReLU(), nn.Flatten(), nn.Linear(144, 5)
    return nn.Sequential(*layers).eval()


class Wrapper(nn.Module):
    def __init__(self, network: Any) -> None:
        super().__init__()
        self.network = network

    def forward(self, x: Tensor) -> Tensor:
        return self.network(x) * 2


@pytest.mark.filterwarnings("ignore:`torch.jit.(script|trace):FutureWarning")
@pytest.mark.parametrize(
    "wrap",
    [
        lambda: torch.jit.script(small()),
        lambda: torch.jit.trace(small(), torch.rand(1, *MAP)),
        lambda: Wrapper(torch.jit.script(small())),
        lambda: torch.compile(small(), backend="eager"),
        lambda: Wrapper(torch.compile(small(), backend="eager")),
        lambda: Wrapper(torch.autocast("cpu", dtype=torch.bfloat16)(small())),
    ],
    ids=("scripted", "traced", "scripted part", "compiled", "compiled part", "autocast"),
)
@both
def test_a_wrapped_network_computes_what_it_wraps(
    format: Format, wrap: Any, tmp_path: Path
) -> None:
    network = wrap()
    artifact = export_module(network, MAP, tmp_path / f"net.{format}")
    images = np.random.default_rng(0).normal(size=(2, *MAP)).astype(np.float32)
    with torch.no_grad():
        expected = small()(torch.from_numpy(images)).numpy() * (
            2 if type(network) is Wrapper else 1
        )
    np.testing.assert_allclose(file_outputs(Path(artifact.path), images), expected, atol=1e-4)


def test_autocast_is_as_before_after_an_evaluation() -> None:
    with evaluating(small()), torch.autocast("cpu", dtype=torch.bfloat16):
        assert small()(torch.ones(1, *MAP)).dtype == torch.float32
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert small()(torch.ones(1, *MAP)).dtype == torch.bfloat16


def test_padded_tokens_are_computed_like_all_others(tmp_path: Path) -> None:
    """PyTorch's fast path gives zeros for padded tokens at the end, a file cannot."""
    layer = nn.TransformerEncoderLayer(8, 2, 16, batch_first=True)
    network = nn.TransformerEncoder(layer, 1)
    shapes = {"src": (4, 8), "src_key_padding_mask": "4:bool"}
    mask = np.array([[False, False, True, True], [False, True, False, True]])
    values = np.random.default_rng(0).normal(size=(2, 4, 8)).astype(np.float32)
    verification = Verification(values, None, (mask,))
    artifact = export_module(network, shapes, tmp_path / "net.onnx", verification=verification)
    assert artifact.parity is not None and artifact.parity.max_relative_error < 1e-5


def test_collected_keywords_are_inputs() -> None:
    class Collects(nn.Module):
        def forward(self, x: Tensor, **others: Tensor) -> Tensor:
            return x + others["y"] * others["z"]

    graph = trace(Collects(), {"z": (3,), "x": (3,), "y": (3,)})
    assert [spec.name for spec in graph.inputs] == ["x", "z", "y"]
