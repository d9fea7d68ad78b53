"""Parity of operations that our own search spaces do not use, in both runtimes."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from hwnas.architecture.artifact import Format
from hwnas.errors import ExportError
from hwnas.export.graph.nodes import Conv, Node, Pad, Slice
from hwnas.export.graph.trace import trace
from tests.export.networks.test_cell_networks import operators
from tests.export.test_parity import FLOAT32_ERROR, Function, both, error_of

MAP = (4, 6, 7)


class ChannelsLast(nn.Module):
    """A ConvNeXt block: norm and linear layers on the last axis, and a scale per channel."""

    def __init__(self) -> None:
        super().__init__()
        self.norm, self.wide, self.narrow = nn.LayerNorm(4), nn.Linear(4, 16), nn.Linear(16, 4)
        self.scale = nn.Parameter(torch.linspace(0.5, 2.0, 4)[:, None, None])
        nn.init.normal_(self.norm.weight)
        nn.init.normal_(self.norm.bias)

    def forward(self, x: Tensor) -> Tensor:
        y = self.norm(x.permute(0, 2, 3, 1))
        return x + self.scale * self.narrow(F.gelu(self.wide(y))).permute(0, 3, 1, 2)


def shuffled(x: Tensor) -> Tensor:
    batch, channels, height, width = x.size()
    x = x.view(batch, 2, channels // 2, height, width)
    return torch.transpose(x, 1, 2).contiguous().view(batch, -1, height, width)


def normalised(x: Tensor) -> Tensor:
    """Input transform of torchvision's GoogLeNet with pretrained weights."""
    first = torch.unsqueeze(x[:, 0], 1) * (0.229 / 0.5) + (0.485 - 0.5) / 0.5
    return torch.cat((first, torch.unsqueeze(x[:, -1], 1) * 0.45 - 0.1), 1)


def pieces(x: Tensor) -> Tensor:
    first, second = x.chunk(2, dim=1)
    a, b, c = torch.split(x, [1, 2, 1], 1)
    return torch.cat((second, F.relu(first), c, b, a), 1)


@both
@pytest.mark.parametrize(
    "module",
    [
        nn.Conv2d(4, 6, 3, padding=1, groups=2),
        nn.Sequential(nn.Conv2d(4, 8, 3, 2, 1, groups=4), nn.ReLU()),
        nn.Conv2d(4, 4, (3, 1), (2, 1), (1, 0), groups=2),
        nn.Conv2d(4, 12, 5, 2, 2, groups=4),
        nn.Sequential(nn.ZeroPad2d((0, 1, 0, 1)), nn.Conv2d(4, 6, 3, 2)),
        nn.Sequential(nn.ZeroPad2d((2, 0, 1, 3)), nn.Conv2d(4, 6, 3, 2, 1)),
        nn.ConvTranspose2d(4, 6, 2, 2),
        nn.ConvTranspose2d(4, 6, 4, 2, 1),
        nn.ConvTranspose2d(4, 6, 3, 2, 1, output_padding=1),
        nn.ConvTranspose2d(4, 6, 3, 2),
        nn.ConvTranspose2d(4, 6, 3, 2, output_padding=1, bias=False),
        nn.ConvTranspose2d(4, 6, (3, 2), (1, 2), (1, 0), dilation=(2, 1)),
        nn.Sequential(nn.ConvTranspose2d(4, 6, 4, 2, 1), nn.BatchNorm2d(6), nn.ReLU()),
        nn.Sequential(nn.Flatten(), nn.Linear(4 * 6 * 7, 9), nn.BatchNorm1d(9), nn.ReLU()),
        nn.Sequential(nn.Flatten(), nn.ReLU(), nn.Dropout(), nn.Linear(4 * 6 * 7, 9)),
        nn.Sequential(nn.Conv2d(4, 3, 1), nn.Flatten()),
        nn.Sequential(nn.AdaptiveAvgPool2d((3, 7)), nn.Flatten(), nn.Linear(84, 5)),
        nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.AdaptiveAvgPool2d((2, 3))),
        nn.MaxPool2d(3, 2, ceil_mode=True),
        nn.MaxPool2d(2, 2, 1, ceil_mode=True),
        nn.AvgPool2d(3, 1, 1),
        nn.AvgPool2d((3, 2), 2, 1),
        nn.AvgPool2d(3, 2, 1, ceil_mode=True, count_include_pad=False),
        nn.Upsample(scale_factor=2),
        nn.Upsample((9, 16)),
        nn.Upsample((9, 16), mode="bilinear"),
        nn.Upsample((3, 4), mode="bilinear"),
        nn.Upsample(scale_factor=(2, 3), mode="bilinear", align_corners=True),
        nn.ConstantPad2d((1, 2, 0, 3), 0.5),
        nn.ReflectionPad2d((1, 2, 3, 0)),
        nn.Sequential(nn.ZeroPad2d(1), nn.MaxPool2d(2)),
        nn.PReLU(),
        nn.PReLU(4, init=-0.3),
        nn.LeakyReLU(0.2),
        nn.ELU(),
        nn.SiLU(),
        nn.Mish(),
        nn.Softplus(),
        nn.Tanh(),
        nn.GELU(),
        nn.GELU("tanh"),
        nn.Hardtanh(),
        nn.Hardtanh(0, 6),
        nn.Softmax(1),
        nn.LogSoftmax(-3),
        nn.Sequential(nn.Flatten(), nn.LayerNorm(168), nn.Linear(168, 4), nn.Softmax(-1)),
        nn.ChannelShuffle(2),
        ChannelsLast(),
    ],
    ids=lambda module: type(module).__name__,
)
def test_modules_compute_the_same_as_in_pytorch(
    format: Format, module: nn.Module, tmp_path: Path
) -> None:
    assert error_of(module, MAP, format, tmp_path) < FLOAT32_ERROR


@both
@pytest.mark.parametrize(
    "function",
    [
        shuffled,
        normalised,
        pieces,
        lambda x: x * 2 + 1,
        lambda x: (3 - x) / 4,
        lambda x: 1 / (x * x + 1),
        lambda x: x / (x.abs() + 0.5),
        lambda x: torch.minimum(torch.maximum(x, -x), x + 1),
        lambda x: torch.sqrt(torch.exp(x) + 0.1) - x,
        lambda x: x.clamp(-1, 2) + torch.clamp(x, min=0.5) + x.clamp(max=1.0),
        lambda x: F.relu(x - x.mean((1, 2, 3), keepdim=True)),
        lambda x: x.mean(1, keepdim=True) * x,
        lambda x: x[:, :, ::2, 1:6:3],
        lambda x: x[:, 1:3] + x[:, -2:],
        lambda x: x[..., 2:5],
        lambda x: torch.cat((x, x[:, :, :2]), 2),
        lambda x: torch.cat((x, x[:, :, :, 1:3]), -1),
        lambda x: x * x.mean((2, 3))[:, :, None, None],
        lambda x: x * torch.sigmoid(x.mean((2, 3)).unsqueeze(-1).unsqueeze(-1)),
        lambda x: x.mean((2, 3)).view(-1, 4, 1, 1) * x,
        lambda x: x.mean((2, 3), keepdim=True).squeeze(-1).squeeze(-1),
        lambda x: x.reshape(-1, 8, 3, 7) * 2,
        lambda x: F.pad(x, (1, 0, 0, 2)) * 1.5,
        lambda x: F.pad(x, (0, 0, 0, 0, 1, 3)),
        lambda x: F.max_pool2d(x, 2),
        lambda x: F.avg_pool2d(x, 3, stride=1, padding=1),
        lambda x: F.interpolate(x, scale_factor=2, mode="bilinear", align_corners=False),
        lambda x: F.interpolate(x, size=(3, 3)),
        lambda x: F.silu(x.permute(0, 2, 3, 1)).permute(0, 3, 1, 2),
    ],
)
def test_functions_compute_the_same_as_in_pytorch(
    format: Format, function: Any, tmp_path: Path
) -> None:
    assert error_of(Function(function), MAP, format, tmp_path) < FLOAT32_ERROR


def nodes_of(module: nn.Module) -> list[type[Node]]:
    return [type(node) for node in trace(module, MAP).nodes]


def test_zero_padding_before_a_convolution_is_merged_into_it() -> None:
    (conv,) = trace(nn.Sequential(nn.ZeroPad2d((0, 1, 2, 3)), nn.Conv2d(4, 2, 3)), MAP).nodes
    assert isinstance(conv, Conv) and conv.padding == ((2, 3), (0, 1))


def test_padding_with_other_users_or_values_is_not_merged() -> None:
    class Twice(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.conv = nn.Conv2d(4, 4, 3, padding=1)

        def forward(self, x: Tensor) -> Tensor:
            y = F.pad(x, (1, 1, 1, 1))
            return self.conv(y) + y

    assert Pad in nodes_of(Twice())
    assert Pad in nodes_of(nn.Sequential(nn.ConstantPad2d(1, 0.5), nn.Conv2d(4, 4, 3)))


def test_scale_and_shift_are_folded_into_the_convolution_before() -> None:
    class Scaled(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.conv, self.scale = nn.Conv2d(4, 2, 1), nn.Parameter(torch.tensor([2.0, 3.0]))

        def forward(self, x: Tensor) -> Tensor:
            return self.conv(x) * self.scale[:, None, None] - 5.0

    module = Scaled()
    (conv,) = trace(module, MAP).nodes
    assert isinstance(conv, Conv) and module.conv.bias is not None
    expected = module.conv.bias.detach() * torch.tensor([2.0, 3.0]) - 5.0
    torch.testing.assert_close(torch.from_numpy(conv.bias), expected)


def test_unused_chunks_are_not_sliced() -> None:
    assert nodes_of(Function(lambda x: x.chunk(2, 1)[1] * x.chunk(2, 1)[1])).count(Slice) == 2


def test_channels_last_needs_no_transpose_in_tflite(tmp_path: Path) -> None:
    graph = trace(ChannelsLast(), MAP)
    assert not {"TRANSPOSE", "RESHAPE"} & set(operators(graph, tmp_path / "net.tflite"))


def test_a_flattened_map_needs_no_transpose_before_a_linear_layer(tmp_path: Path) -> None:
    module = nn.Sequential(nn.Flatten(), nn.ReLU(), nn.Linear(168, 3))
    ops = operators(trace(module, MAP), tmp_path / "net.tflite")
    assert ops == ["RESHAPE", "RELU", "FULLY_CONNECTED"]
    assert "TRANSPOSE" in operators(trace(nn.Flatten(), MAP), tmp_path / "flat.tflite")


def test_padding_equal_to_same_needs_no_pad_in_tflite(tmp_path: Path) -> None:
    module = nn.Sequential(nn.ZeroPad2d((0, 1, 0, 1)), nn.Conv2d(4, 6, 3, 2))
    ops = operators(trace(module, (4, 8, 8)), tmp_path / "net.tflite")
    assert ops == ["CONV_2D"]


@pytest.mark.parametrize("field", ["weight", "bias"])
def test_a_weight_that_is_not_finite_is_named_in_the_error(field: str) -> None:
    module = nn.Sequential(nn.Conv2d(4, 4, 1), nn.ReLU(), nn.Conv2d(4, 2, 1))
    with torch.no_grad():
        getattr(module[2], field).view(-1)[0] = torch.nan
    with pytest.raises(
        ExportError, match=f"^logits: its {field} contains a value that is not finite"
    ):
        trace(module, MAP)


def test_a_running_variance_that_is_not_finite_is_named_in_the_error() -> None:
    module = nn.Sequential(nn.Conv2d(4, 4, 1), nn.BatchNorm2d(4), nn.ReLU(), nn.Conv2d(4, 4, 1))
    assert module[1].running_var is not None
    module[1].running_var.fill_(torch.nan)  # type: ignore[operator]
    with pytest.raises(ExportError, match=r"^0: its weight contains a value that is not finite"):
        trace(module, MAP)
