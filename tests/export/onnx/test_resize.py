"""Resized maps whose axes were moved: ONNX Runtime moves the change of order behind the resize."""

from __future__ import annotations

from itertools import permutations
from pathlib import Path

import msgspec
import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from hwnas.export.compile import export_module
from hwnas.export.recipe import OnnxRecipe, find_recipe
from tests.support.networks.onnx_files import in_onnxruntime, noise


class Moved(nn.Module):
    """Moves the axes of a map, resizes it, and moves them back."""

    def __init__(self, order: tuple[int, ...], size: tuple[int, int], mode: str) -> None:
        super().__init__()
        self.order, self.size, self.mode = (0, *order), size, mode

    def forward(self, x: Tensor) -> Tensor:
        moved = torch.relu(x.permute(self.order)) * 0.5
        resized = torch.tanh(F.interpolate(moved, self.size, mode=self.mode))
        return resized.permute([self.order.index(axis) for axis in range(4)])


def recipe(dynamic_batch: bool = False, opset: int | None = None) -> OnnxRecipe:
    shipped = find_recipe("onnx", "fp32")
    assert isinstance(shipped, OnnxRecipe)
    return msgspec.structs.replace(
        shipped, dynamic_batch=dynamic_batch, opset=opset or shipped.opset
    )


@pytest.mark.parametrize("order", list(permutations((1, 2, 3))))
@pytest.mark.parametrize(
    ("shape", "size"), [((4, 5, 6), (1, 1)), ((4, 5, 6), (7, 3)), ((5, 1, 6), (1, 1))]
)
def test_a_moved_map_is_resized(
    order: tuple[int, ...], shape: tuple[int, ...], size: tuple[int, int], tmp_path: Path
) -> None:
    network = Moved(order, size, "bilinear")
    artifact = export_module(network, shape, tmp_path / "net.onnx", recipe=recipe())
    assert artifact.parity is not None and artifact.parity.max_relative_error < 1e-5


@pytest.mark.parametrize("mode", ["bilinear", "nearest"])
@pytest.mark.parametrize("order", [(2, 3, 1), (3, 1, 2)])
def test_moved_maps_of_a_dynamic_batch_are_resized(
    mode: str, order: tuple[int, ...], tmp_path: Path
) -> None:
    network, path = Moved(order, (7, 3), mode), tmp_path / "net.onnx"
    for shape, opset in (((4, 5, 6), 13), ((5, 1, 6), 18), ((5, 6, 1), 18)):
        export_module(network, shape, path, recipe=recipe(True, opset))
        images = noise((3, *shape))
        [outputs] = in_onnxruntime(path, images)
        np.testing.assert_allclose(outputs, network(torch.from_numpy(images)), atol=1e-5)
