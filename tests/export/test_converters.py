"""Another converter's files go through our verification."""

from __future__ import annotations

from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from hwnas.errors import ExportError, UsageError
from hwnas.export.converters import CONVERTERS, Converter, Via, compile_via
from hwnas.export.verification.run_model import file_outputs

IMAGES = np.random.default_rng(0).standard_normal((4, 3, 8, 8)).astype(np.float32)
LABELS = np.zeros(4, np.int64)


class Doubling(nn.Module):
    """Adds 1 when traced as if the batch were larger: no converter can know."""

    def __init__(self, sneaky: bool) -> None:
        super().__init__()
        self.sneaky = sneaky

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        if self.sneaky and not torch.compiler.is_exporting():
            return 2 * x
        return 2 * x + 1 if self.sneaky else 2 * x


def network(sneaky: bool = False) -> nn.Module:
    torch.manual_seed(0)
    layers = [nn.Conv2d(3, 4, 3, padding=1), nn.CELU(), nn.AdaptiveAvgPool2d(1), nn.Flatten()]
    return nn.Sequential(*layers, nn.Linear(4, 5), Doubling(sneaky)).eval()


@pytest.mark.parametrize("via", CONVERTERS)
def test_an_operation_outside_ours_is_converted_and_verified(via: Via, tmp_path: Path) -> None:
    if find_spec(CONVERTERS[via].module) is None:
        pytest.skip(f"{CONVERTERS[via].module} is not installed")
    module, path = network(), tmp_path / f"model.{CONVERTERS[via].format}"
    artifact = compile_via(via, module, (3, 8, 8), path, IMAGES, LABELS)
    assert artifact.parity is not None and artifact.parity.max_relative_error < 1e-5
    with torch.no_grad():
        expected = module(torch.from_numpy(IMAGES)).numpy()
    found = file_outputs(path, CONVERTERS[via].format, IMAGES)
    np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-5)


def test_a_file_that_computes_something_else_is_refused(tmp_path: Path) -> None:
    pytest.importorskip("onnxscript")
    path = tmp_path / "model.onnx"
    with pytest.raises(ExportError, match=r"model\.onnx"):
        compile_via("torch-onnx", network(sneaky=True), (3, 8, 8), path, IMAGES, LABELS)
    assert not list(tmp_path.iterdir())


def test_a_converter_that_is_not_installed_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(CONVERTERS, "litert-torch", Converter("tflite", "no_such_package"))
    with pytest.raises(UsageError, match=r'pip install "hwnas\[litert-torch\]"'):
        compile_via("litert-torch", network(), (3, 8, 8), tmp_path / "m.tflite", IMAGES, LABELS)
