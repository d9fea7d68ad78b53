"""Convolutions, norms, pools, padding and resizing in their rarer forms, in both runtimes."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from hwnas.architecture.artifact import Format
from hwnas.export.graph.nodes import Conv, Resize
from hwnas.export.graph.trace import trace
from tests.export.test_parity import FLOAT32_ERROR, Function, both, error_of

MAP = (4, 7, 10)
GRID = torch.linspace(-1, 1, 12).view(1, 2, 3, 2)


class SamePadded(nn.Conv2d):
    """Pads as TensorFlow does, by amounts computed from the shape of its input."""

    def forward(self, input: Tensor) -> Tensor:
        amounts: list[int] = []
        for size, stride, kernel_size in zip(
            input.shape[-1:1:-1], self.stride, self.kernel_size, strict=True
        ):
            total = max((-(-size // stride) - 1) * stride + kernel_size - size, 0)
            amounts += [total // 2, total - total // 2]
        return F.conv2d(F.pad(input, amounts), self.weight, self.bias, self.stride, 0)


def row(*layers: nn.Module) -> nn.Module:
    """Layers on ``[N, C, L]``."""
    return nn.Sequential(nn.Flatten(2), *layers)


@both
@pytest.mark.parametrize(
    "module",
    [
        SamePadded(4, 6, 3, 2),
        row(nn.Conv1d(4, 6, 3, 2, 1), nn.BatchNorm1d(6), nn.ReLU(), nn.MaxPool1d(3, 2, 1)),
        row(nn.ConvTranspose1d(4, 3, 3, 2, 1), nn.AvgPool1d(2), nn.AdaptiveAvgPool1d(9)),
        row(nn.GroupNorm(2, 4), nn.ConstantPad1d(2, 1.0), nn.Upsample(scale_factor=1.5)),
        row(nn.Upsample(scale_factor=1.5, mode="linear"), nn.BatchNorm1d(4)),
        nn.utils.parametrizations.weight_norm(nn.Conv2d(4, 5, 3)),
        nn.utils.parametrizations.spectral_norm(nn.Conv2d(4, 5, 3)),
        nn.Unfold(2, stride=2, padding=1),
        nn.ConvTranspose2d(4, 8, 4, 2, 1, groups=2),
        nn.ConvTranspose2d(4, 4, 3, 2, 1, 1, groups=4, dilation=2),
        nn.ConvTranspose2d(4, 6, 2, stride=3, output_padding=2),
        nn.Sequential(nn.Conv2d(4, 6, 1), nn.GroupNorm(3, 6), nn.GroupNorm(1, 6)),
        nn.InstanceNorm2d(4, affine=True),
        nn.InstanceNorm2d(4, affine=True, track_running_stats=True),
        nn.Sequential(nn.LayerNorm([4, 7, 10]), nn.LayerNorm([7, 10]), nn.LayerNorm(10)),
        nn.RMSNorm(10),
        nn.LocalResponseNorm(3),
        nn.Conv2d(4, 5, 3, padding=1, padding_mode="circular"),
        nn.Conv2d(4, 5, (3, 5), padding=(1, 2), padding_mode="replicate"),
        nn.Conv2d(4, 5, 3, 2, padding=1, padding_mode="reflect"),
        nn.MaxPool2d(2, 1, 1, dilation=2),
        nn.MaxPool2d(3, 1, 0, dilation=(2, 3), ceil_mode=True),
        nn.AvgPool2d(3, 2, 1, ceil_mode=True),
        nn.AvgPool2d((2, 3), (3, 2), (1, 1), ceil_mode=True, count_include_pad=False),
        nn.AvgPool2d(2, padding=1, divisor_override=3),
        nn.LPPool2d(2, 2),
        nn.AdaptiveAvgPool2d((3, 4)),
        nn.AdaptiveAvgPool2d((None, 6)),
        nn.AdaptiveMaxPool2d((3, 4)),
        nn.Sequential(nn.Conv2d(4, 4, 1), nn.AdaptiveMaxPool2d(1)),
        nn.Upsample((9, 16)),
        nn.Upsample(scale_factor=1.7),
        nn.Upsample((4, 9), mode="nearest-exact"),
        nn.Upsample(scale_factor=1.3, mode="bilinear"),
        nn.Upsample((9, 7), mode="bicubic"),
    ],
    ids=lambda module: type(module).__name__,
)
def test_layers(format: Format, module: nn.Module, tmp_path: Path) -> None:
    assert error_of(module, MAP, format, tmp_path) < FLOAT32_ERROR


@both
@pytest.mark.parametrize(
    "function",
    [
        lambda x: F.batch_norm(x, None, None, torch.arange(4.0), training=True),
        lambda x: F.pad(x, (2, 1, 0, 3), mode="replicate"),
        lambda x: F.pad(x, (2, 1, 1, 3), mode="circular"),
        lambda x: F.pad(x, (-1, 2, 1, -2)),
        lambda x: F.pad(x.view(-1, 2, 2, 7, 2, 5), (1, 2, 0, 1), value=0.5),
        lambda x: F.pad(x.flatten(2), (3, 2), mode="reflect"),
        lambda x: F.max_pool2d(F.pad(x, (0, 1, 1, 0), value=-float("inf")), 3, 2),
        lambda x: F.fold(
            F.unfold(x, (2, 3), stride=(1, 2), padding=1), (7, 10), (2, 3), 1, 1, (1, 2)
        ),
        lambda x: F.interpolate(x, size=(7, 25)),
        lambda x: F.interpolate(x, (3, 3), mode="bilinear", antialias=True),
        lambda x: F.interpolate(x, (3, 3), mode="area"),
        lambda x: F.grid_sample(x, GRID.expand(len(x), -1, -1, -1), align_corners=False),
    ],
)
def test_functions(format: Format, function: Any, tmp_path: Path) -> None:
    assert error_of(Function(function), MAP, format, tmp_path) < FLOAT32_ERROR


@both
@pytest.mark.parametrize("size", [26, 37, 64])
@pytest.mark.parametrize("to", [13, 65, 90])
def test_nearest_pixels_are_those_of_pytorch(
    format: Format, size: int, to: int, tmp_path: Path
) -> None:
    """Rounding in float32 decides between two pixels in many of these sizes."""
    module = nn.Upsample((2, to))
    assert error_of(module, (2, 2, size), format, tmp_path) == 0.0


def test_resizing_by_whole_factors_is_one_node() -> None:
    assert [type(node) for node in trace(nn.Upsample(scale_factor=3), MAP).nodes] == [Resize]


def test_zeros_that_only_make_a_padding_symmetric_are_no_part_of_the_kernel() -> None:
    conv = nn.Conv2d(4, 4, 4, padding=2)
    with torch.no_grad():
        conv.weight[:, :, 0] = 0
        conv.weight[:, :, :, 0] = 0
    (node,) = trace(conv, MAP).nodes
    assert isinstance(node, Conv)
    assert node.weight.shape[2:] == (3, 3) and node.padding == ((1, 2), (1, 2))
