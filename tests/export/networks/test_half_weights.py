"""Files with weights of 16 bits: half as large, computed in float32, judged by their own limit."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch import nn

from hwnas.architecture.artifact import Format
from hwnas.errors import ExportError
from hwnas.export.compile import export_module, noise_for
from hwnas.export.graph.interface import module_interface
from hwnas.export.metadata.precision import precision_of
from hwnas.export.recipe import find_recipe
from hwnas.export.verify_file import verify_file
from tests.export.test_parity import both

SHAPE = (3, 12, 12)


def network(seed: int = 0) -> nn.Sequential:
    torch.manual_seed(seed)
    return nn.Sequential(
        nn.Conv2d(3, 32, 3, 2, 1),
        nn.BatchNorm2d(32),
        nn.Conv2d(32, 32, 3, padding=1, groups=32),
        nn.Hardswish(),
        nn.ConvTranspose2d(32, 64, 3, 2),
        nn.AdaptiveAvgPool2d(1),
        nn.Flatten(),
        nn.Linear(64, 500),
        nn.LayerNorm(500),
        nn.Linear(500, 10),
    ).eval()


@both
def test_a_file_of_half_weights_is_half_as_large_and_almost_the_same(
    format: Format, tmp_path: Path
) -> None:
    whole = export_module(network(), SHAPE, tmp_path / f"whole.{format}")
    path = tmp_path / f"half.{format}"
    half = export_module(network(), SHAPE, path, recipe=find_recipe(format, "fp16"))
    assert half.size_bytes < 0.6 * whole.size_bytes
    assert (whole.precision, half.precision) == ("fp32", "fp16")
    assert (precision_of(Path(whole.path)), precision_of(path)) == ("fp32", "fp16")
    assert half.parity is not None and 1e-5 < half.parity.max_relative_error < 5e-3


@both
def test_a_file_of_half_weights_is_verified_by_its_own_limit(
    format: Format, tmp_path: Path
) -> None:
    path = tmp_path / f"half.{format}"
    export_module(network(), SHAPE, path, recipe=find_recipe(format, "fp16"))
    noise = noise_for(network(), module_interface(network(), SHAPE), 2)
    assert verify_file(path, network(), noise).max_relative_error > 1e-5
    with pytest.raises(ExportError, match="differs from PyTorch"):
        verify_file(path, network(seed=1), noise)


@both
def test_weights_beyond_the_range_of_float16_stay_in_float32(
    format: Format, tmp_path: Path
) -> None:
    linear = nn.Linear(432, 10)
    with torch.no_grad():
        linear.weight *= 1e7
    path, module = tmp_path / f"half.{format}", nn.Sequential(nn.Flatten(), linear)
    artifact = export_module(module, SHAPE, path, recipe=find_recipe(format, "fp16"))
    assert artifact.parity is not None and artifact.parity.max_relative_error < 1e-5
