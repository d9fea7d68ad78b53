"""Convolutions, pools and norms of volumes, in both runtimes."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from hwnas.architecture.artifact import Format
from hwnas.errors import ExportError
from hwnas.export.graph.nodes import Conv, Node
from hwnas.export.graph.trace import trace
from tests.export.test_parity import FLOAT32_ERROR, Function, both, error_of

VOLUME: Any = (4, 5, 7, 6)


@both
@pytest.mark.parametrize(
    "module",
    [
        nn.Conv3d(4, 6, 3, padding=1),
        nn.Conv3d(4, 6, (3, 1, 2), (2, 1, 3), (1, 0, 2), (2, 1, 1), groups=2),
        nn.Conv3d(4, 4, (3, 1, 5), padding="same", groups=4, bias=False),
        nn.Conv3d(4, 2, 1, padding="valid"),
        nn.Sequential(nn.Conv3d(4, 6, 3), nn.BatchNorm3d(6), nn.ReLU()),
        nn.ConvTranspose3d(4, 6, 2, 2),
        nn.ConvTranspose3d(4, 6, 3, (2, 1, 3), (2, 1, 0), (1, 0, 2), groups=2, dilation=(1, 2, 1)),
        nn.ConvTranspose3d(4, 3, (1, 3, 2), 1, (0, 2, 1), bias=False),
        nn.MaxPool3d(2),
        nn.MaxPool3d(3, 2, 1, ceil_mode=True),
        nn.MaxPool3d((2, 1, 3), 1, (1, 0, 1), dilation=(2, 1, 1)),
        nn.AvgPool3d((2, 3, 1)),
        nn.AvgPool3d(3, 2, 1, ceil_mode=True),
        nn.AvgPool3d(3, 2, 1, count_include_pad=False),
        nn.AvgPool3d(2, 1, divisor_override=3),
        nn.AvgPool3d((3, 1, 1), 1, (1, 0, 0)),
        nn.AdaptiveAvgPool3d(1),
        nn.AdaptiveAvgPool3d((2, 1, 4)),
        nn.AdaptiveMaxPool3d((3, 2, 4)),
        nn.Sequential(nn.Conv3d(4, 4, 1), nn.InstanceNorm3d(4, affine=True), nn.GroupNorm(2, 4)),
    ],
    ids=lambda module: type(module).__name__,
)
def test_layers(format: Format, module: nn.Module, tmp_path: Path) -> None:
    assert error_of(module, VOLUME, format, tmp_path) < FLOAT32_ERROR


def test_a_convolution_is_one_of_its_slices() -> None:
    nodes: list[Node] = [
        node for node in trace(nn.Conv3d(4, 6, (3, 5, 5)), VOLUME).nodes if isinstance(node, Conv)
    ]
    assert [node.shape for node in nodes] == [(3, 6, 3, 2)]


def test_a_kernel_reads_the_slices_that_it_covers() -> None:
    """Computed by hand: each output is the sum of two neighbouring slices, the later one times
    ten."""
    conv = nn.Conv3d(1, 1, (2, 1, 1), bias=False)
    with torch.no_grad():
        conv.weight[:] = torch.tensor([1.0, 10.0]).view(1, 1, 2, 1, 1)
        assert conv(torch.tensor([1.0, 2.0, 3.0]).view(1, 1, 3, 1, 1)).flatten().tolist() == [
            21,
            32,
        ]
    (node,) = (node for node in trace(conv, (1, 3, 1, 1)).nodes if isinstance(node, Conv))
    assert node.weight.flatten().tolist() == [1.0, 10.0]


@pytest.mark.parametrize(
    "function",
    [
        lambda x: F.max_pool3d(x, 2, return_indices=True)[1],
        lambda x: F.conv3d(x, x.mean((2, 3), keepdim=True).expand(4, 4, 1, 1, 6)),
    ],
)
def test_places_and_computed_kernels_are_refused(function: Any) -> None:
    with pytest.raises(ExportError, match=r"^the network: aten.*fall-back"):
        trace(Function(function), VOLUME)
