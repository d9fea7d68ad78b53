"""What LiteRT computes with int8 files of rarer operators, and what their outputs are called."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from hwnas.devices.worker.runtimes.litert import LiteRtModel
from hwnas.export.compile import export_module
from hwnas.export.quantization.ptq import Int8
from hwnas.export.verification.images import Verification

pytest.importorskip("ai_edge_quantizer")

SHAPE = (4, 8, 8)


class Applied(nn.Module):
    """A function of the values of a convolution."""

    def __init__(self, function: Callable[[Tensor], object]) -> None:
        super().__init__()
        self.conv, self.function = nn.Conv2d(4, 4, 1), function

    def forward(self, x: Tensor) -> object:
        return self.function(self.conv(x))


def exported(function: Callable[[Tensor], object], path: Path) -> float | None:
    """Write an int8 file that is verified on noise; return its ratio of signal to noise, in dB."""
    torch.manual_seed(0)
    noise = np.random.default_rng(0).normal(size=(64, *SHAPE)).astype(np.float32)
    module, int8 = Applied(function).eval(), Int8(noise)
    artifact = export_module(module, SHAPE, path, verification=Verification(noise[:16]), int8=int8)
    assert artifact.parity is not None
    return artifact.parity.sqnr_db


@pytest.mark.parametrize(
    "function",
    [
        lambda x: x.cumsum(2),
        lambda x: F.interpolate(x, (13, 13), mode="bicubic"),
        lambda x: torch.matmul(torch.linspace(-1, 1, 80).reshape(10, 8), x),
    ],
    ids=["cumsum", "bicubic", "matmul"],
)
def test_products_with_constants_are_not_zero(
    function: Callable[[Tensor], Tensor], tmp_path: Path
) -> None:
    noise_db = exported(function, tmp_path / "net.tflite")
    assert noise_db is not None and noise_db > 25


def test_outputs_of_layers_in_float32_have_their_own_names(tmp_path: Path) -> None:
    def divided(x: Tensor) -> dict[str, Tensor]:
        return {"ratio": x / (x.abs() + 1), "map": F.relu(x)}

    exported(divided, tmp_path / "net.tflite")
    model = LiteRtModel(str(tmp_path / "net.tflite"))
    assert set(model.output_names) == {"ratio", "map"}
