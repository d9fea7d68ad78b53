"""Order statistics, running extremes, functions that runtimes lack, distances: as PyTorch's."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from hwnas.architecture.artifact import Format
from hwnas.export.lowering.ops.functions import ARCTAN
from tests.export.lowering.ops.test_places import largest_difference
from tests.export.test_parity import FLOAT32_ERROR, Function, both, error_of

MAP = (5, 6, 7)
EDGES = torch.tensor([-1.0, 0.0, 0.5])


@both
@pytest.mark.parametrize(
    "function",
    [
        lambda x: x.median(2).values,
        lambda x: x.median(1, keepdim=True).indices,
        lambda x: x.median().reshape(1),
        lambda x: x.kthvalue(3, dim=3).values,
        lambda x: torch.msort(x[0]),
        lambda x: torch.cummax(x, 1).values + torch.cummin(x, 3).values,
        lambda x: torch.searchsorted(EDGES, x) + torch.bucketize(x, EDGES, right=True),
        lambda x: torch.searchsorted(x.sort(3)[0], x[..., :2].contiguous(), right=True),
        lambda x: F.one_hot(x.argmax(1), 5),
        lambda x: torch.where((x > 0).any(1), (x > 1).all(2).sum(1)[:, None], 7),
        lambda x: (x > 0).logical_xor(x > 1).float() + ((x < 0) ^ (x < 1)),
        lambda x: x.repeat_interleave(torch.tensor([1, 0, 2, 0, 3]), 1),
        lambda x: x.roll(3) + x.repeat_interleave(2)[: x.numel()].view_as(x),
        lambda x: x.diagonal(1, 1, 3)[:, :, :5] * torch.diag_embed(x[:, 0, :, 0])[:, :6, :5],
        lambda x: F.max_pool2d(x, 3, 2, 1, return_indices=True)[1],
        lambda x: F.max_pool2d(x, (2, 3), dilation=2, return_indices=True)[1] - torch.aminmax(x)[0],
    ],
)  # fmt: skip
def test_elements_in_their_order(function: Any, format: Format, tmp_path: Path) -> None:
    assert largest_difference(function, tmp_path / f"net.{format}") == 0


@both
@pytest.mark.parametrize(
    "function",
    [
        lambda x: torch.atan(x) + torch.tan(x.tanh()),
        lambda x: torch.atan2(x, x.flip(3)) + torch.atan2(x, torch.tensor(0.0)),
        lambda x: torch.asin(0.9 * x.sin()) + torch.acos(0.9 * x.flip(1).sin()),
        lambda x: torch.asinh(x) + torch.acosh(x.abs() + 1) + torch.atanh(x.tanh() * 0.9),
        lambda x: torch.trunc(x) - torch.frac(x * 3) + torch.fmod(x * 3, 1.7) + torch.erfc(x),
        lambda x: torch.hypot(x, x.flip(1)) + torch.copysign(x, -x) + torch.signbit(x),
        lambda x: torch.xlogy(F.relu(x), x.abs()) + torch.special.xlog1py(x, x.abs()),
        lambda x: torch.fmax(x, -x) - torch.fmin(x, x.mean()),
        lambda x: F.kl_div(x.log_softmax(1), F.softmax(-x, 1), reduction="none"),
        lambda x: torch.quantile(x, 0.3, dim=2) - torch.quantile(x, 0.9, dim=2),
        lambda x: torch.quantile(x[0], torch.tensor([0.1, 0.5, 1.0]), dim=1).movedim(0, 2)[None],
        lambda x: torch.quantile(x, 0.55, interpolation="nearest").reshape(1, 1) + x.flatten(1),
        lambda x: torch.logcumsumexp(x * 3, 1),
        lambda x: torch.cdist(x, x.flip(1)) + torch.cdist(x, x + 1, p=1) + torch.cdist(x, -x, p=3),
        lambda x: F.pdist(x[0, 0])[None],
        lambda x: F.bilinear(
            x[:, :, :, :3], x[:, :, :, 3:], torch.arange(24.0).view(2, 3, 4) / 9, EDGES[:2]
        ),
        lambda x: F.linear(x, x[0, 0, :4], x[0, 0, :4, 0]),
        lambda x: torch.linalg.vector_norm(x, 0, dim=1) + torch.linalg.vector_norm(x, 4, dim=(1,)),
        lambda x: F.conv2d(x, x[0, :, :3, :3].expand(2, 5, 3, 3) / 9, EDGES[:2], 2, 1),
        lambda x: F.conv2d(
            x[:, :4], x[0, 0, 0, :4].view(4, 1, 1, 1) * torch.ones(4, 2, 3, 2), None, 1, 1, 2, 2
        ),
        lambda x: F.conv1d(x.flatten(2), x[:, :, 0, :3].expand(3, -1, -1), padding="same"),
        lambda x: F.max_unpool2d(*F.max_pool2d(x[..., 1:], 2, return_indices=True), [2, 2]),
        lambda x: F.max_unpool2d(
            *F.max_pool2d(x, 3, 2, 1, return_indices=True), [3, 3], [2, 2], [1, 1], [6, 7]
        ),
    ],
)
def test_functions(function: Any, format: Format, tmp_path: Path) -> None:
    assert error_of(Function(function), MAP, format, tmp_path) < FLOAT32_ERROR


def test_the_polynomial_is_the_arc_tangent_up_to_an_eighth() -> None:
    x = np.linspace(-1, 1, 999) * math.tan(math.pi / 8)
    angle = x * sum(c * x ** (2 * power) for power, c in enumerate(ARCTAN))
    np.testing.assert_allclose(angle, np.arctan(x), atol=3e-9)


def test_angles_are_those_of_every_quadrant(tmp_path: Path) -> None:
    """Also on the axes, where a quotient would be infinite."""
    turns = torch.tensor([0, 1, 2, 3, 5, 6, 7]) * math.pi / 4
    points = torch.stack((turns.sin().round(decimals=6), turns.cos().round(decimals=6)))

    def angles(x: Tensor) -> Tensor:
        rows, columns = points + 0 * x[0, 0, 0, 0]
        return torch.atan2(rows, columns)[None]

    assert largest_difference(angles, tmp_path / "net.onnx") < 1e-6
