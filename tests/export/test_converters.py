"""Files of other converters are verified like the compiler's own."""

from __future__ import annotations

from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from hwnas.architecture.artifact import Artifact
from hwnas.errors import ExportError, UsageError
from hwnas.export.compile import export_module
from hwnas.export.converters import CONVERTERS, Converter, ConverterName
from hwnas.export.verification.images import Verification
from hwnas.export.verification.run_model import file_outputs

IMAGES = np.random.default_rng(0).standard_normal((4, 3, 8, 8)).astype(np.float32)
VERIFICATION = Verification(IMAGES, np.zeros(4, np.int64))


class Doubling(nn.Module):
    """Doubles its input; if ``sneaky``, it computes something else while it is exported."""

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


def converted(name: ConverterName, module: nn.Module, path: Path) -> Artifact:
    return export_module(module, (3, 8, 8), path, verification=VERIFICATION, converter=name)


@pytest.mark.parametrize("name", CONVERTERS)
def test_an_unknown_operation_is_converted_and_verified(
    name: ConverterName, tmp_path: Path
) -> None:
    converter = CONVERTERS[name]
    if find_spec(converter.module) is None:
        pytest.skip(f"{converter.module} is not installed")
    module, path = network(), tmp_path / f"model.{converter.format}"
    artifact = converted(name, module, path)
    assert artifact.parity is not None and artifact.parity.max_relative_error < 1e-5
    with torch.no_grad():
        expected = module(torch.from_numpy(IMAGES)).numpy()
    np.testing.assert_allclose(file_outputs(path, IMAGES), expected, rtol=1e-4, atol=1e-5)


def test_a_file_that_computes_something_else_is_rejected(tmp_path: Path) -> None:
    pytest.importorskip("onnxscript")
    path = tmp_path / "model.onnx"
    with pytest.raises(ExportError, match=r"model\.onnx"):
        converted("torch-onnx", network(sneaky=True), path)
    assert not list(tmp_path.iterdir())


def test_a_converter_that_is_not_installed_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(CONVERTERS, "litert-torch", Converter("tflite", "no_such_package"))
    with pytest.raises(UsageError, match=r'pip install "hwnas\[litert-torch\]"'):
        converted("litert-torch", network(), tmp_path / "m.tflite")
