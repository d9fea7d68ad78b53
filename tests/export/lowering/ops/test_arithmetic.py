"""Arithmetic, comparisons, choices and functions of each element, in both runtimes."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from hwnas.architecture.artifact import Format
from hwnas.export.graph.nodes import Arithmetic, Constant, Select
from hwnas.export.graph.trace import trace
from tests.export.test_parity import FLOAT32_ERROR, Function, both, error_of

MAP = (4, 5, 6)
LATER_CHANNELS = torch.tensor([False, True, True, True])[:, None, None]


class Functional(nn.Module):
    """Layers as functions of parameters and buffers, a scale by a constant, and no layer."""

    def __init__(self) -> None:
        super().__init__()
        self.kernel = nn.Parameter(torch.randn(6, 4, 3, 3) * 0.2)
        self.register_buffer("mean", torch.randn(6) * 0.3)
        self.register_buffer("var", torch.rand(6) + 0.5)

    def forward(self, x: Tensor) -> Tensor:
        kernel = (self.kernel - self.kernel.mean((1, 2, 3), keepdim=True)) / self.kernel.std()
        x = F.conv2d(x, kernel, None, stride=2, padding=1)
        return F.relu(F.batch_norm(x, self.mean, self.var, None, None, False, 0.1, 1e-3))  # type: ignore[arg-type]


@both
@pytest.mark.parametrize(
    "function",
    [
        Functional(),
        lambda x: x**2 + (x * x + 1).rsqrt() - x.abs().pow(1.7) + x.pow(3) + 2**x,
        lambda x: torch.add(x, x.mean(1, keepdim=True), alpha=2) - torch.sub(x, 1, alpha=3),
        lambda x: (1 - x) / (x.square() + 1).sqrt() + torch.reciprocal(x.abs() + 1) - (-x) % 1.5,
        lambda x: torch.where(x < 0, torch.zeros_like(x), x * x),
        lambda x: torch.where((x > 0) & (x < 1) | (x == 2), x, -x) + x * ~(x >= 0.5),
        lambda x: x.masked_fill(x.abs() > 1, 0.5) + (x <= -1).float(),
        lambda x: x + torch.logical_and(F.relu(x), F.relu(1 - x)) * 2 - F.relu(x).bool() * 3,
        lambda x: torch.where(torch.tensor([1, 0, 1, 0]).bool().view(4, 1, 1), x, 0.5),
        lambda x: F.softmax(x.masked_fill((x > 1) & LATER_CHANNELS, -math.inf), dim=1),
        lambda x: torch.sign(x) * torch.maximum(x, torch.tensor(0.1)) - torch.clamp_min(x, 0.2),
        lambda x: torch.addcmul(x, x, x, value=0.5).lerp(x, 0.3) + torch.addcdiv(x, x, x.abs() + 1),
        lambda x: torch.floor(x) + torch.ceil(x * 3) - torch.round(x * 1.3) + x // 0.7,
        lambda x: torch.sin(x) * torch.cos(x) + torch.sinh(x / 4) - torch.cosh(x / 4),
        lambda x: (
            torch.log1p(x.abs()) + torch.expm1(x / 9) + torch.log2(x.abs() + 1) + torch.exp2(x)
        ),
        lambda x: x * 0.5 * (1 + torch.erf(x / math.sqrt(2))),
        lambda x: F.celu(x, 0.7) + F.selu(x) + F.elu(x, 0.5) + F.rrelu(x),
        lambda x: F.threshold(x, 0.1, -1) + F.hardshrink(x, 0.3) + F.softshrink(x, 0.3),
        lambda x: F.glu(x, 1) + F.logsigmoid(x)[:, :2] + F.softsign(x)[:, 2:],
        lambda x: F.softplus(x, beta=2, threshold=3) + F.softplus(x, threshold=2),
        lambda x: x // 0.7 + torch.div(x * 3, 0.7, rounding_mode="trunc"),
        lambda x: F.softplus(x, beta=2) + F.tanhshrink(x) + F.hardtanh(x, -2, 0.5),
        lambda x: F.prelu(x.flatten(2), torch.tensor([0.1, -0.2, 0.3, 0.4])),
        lambda x: F.softmax(x, 3) + F.log_softmax(x, 2) + F.softmin(x, 1),
    ],
)
def test_functions_of_each_element(format: Format, function: Any, tmp_path: Path) -> None:
    module = function if isinstance(function, nn.Module) else Function(function)
    assert error_of(module, MAP, format, tmp_path) < FLOAT32_ERROR


def kinds(function: Any) -> list[type]:
    nodes = trace(Function(function), MAP).nodes
    return [type(node) for node in nodes if not isinstance(node, Constant)]


def test_a_choice_by_a_comparison_is_one_node() -> None:
    assert kinds(lambda x: torch.where(x > 0.2, x, 0.1 * x)) == [Arithmetic, Select]
    assert kinds(lambda x: x.masked_fill(x > 1, 0.0)) == [Select]


def test_an_expanded_operand_of_arithmetic_is_broadcast_by_the_operator() -> None:
    def gated(x: Tensor) -> Tensor:
        return x * x.amax((2, 3), keepdim=True).expand_as(x)

    assert [kind.__name__ for kind in kinds(gated)] == ["Reduce", "Arithmetic"]
