"""Reshapes, permutations, pieces and reductions over any axes, in both runtimes."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from hwnas.architecture.artifact import Format
from hwnas.export.graph.nodes import Slice
from hwnas.export.graph.trace import trace
from tests.export.test_parity import FLOAT32_ERROR, Function, both, error_of

MAP = (4, 6, 8)


def space_to_depth(x: Tensor) -> Tensor:
    return torch.cat((x[..., ::2, ::2], x[..., 1::2, ::2], x[..., ::2, 1::2]), 1)


def windows(x: Tensor) -> Tensor:
    """Windows of 3x4 pixels, taken apart and put together again, as in Swin."""
    batch, channels, height, width = x.shape
    rows = x.view(batch, channels, height // 3, 3, width // 4, 4).permute(0, 2, 4, 3, 5, 1)
    tokens = rows.reshape(-1, 12, channels).softmax(1)
    rows = tokens.view(batch, height // 3, width // 4, 3, 4, channels).permute(0, 5, 1, 3, 2, 4)
    return rows.reshape(x.shape)


@both
@pytest.mark.parametrize(
    "function",
    [
        lambda x: x.permute(0, 3, 1, 2) * 2,
        lambda x: x.transpose(-1, -2).contiguous().view(x.size(0), 8, -1),
        lambda x: x.flatten(2).permute(0, 2, 1).reshape(-1, 16, 12),
        lambda x: x.unsqueeze(1).permute(0, 1, 3, 2, 4).flatten(3, 4),
        lambda x: x.view(x.shape[0], 2, 2, 6, 8).max(dim=1)[0] + x.unflatten(1, (2, 2)).sum(2),
        lambda x: x.mean(1, keepdim=True).squeeze(1) + x.squeeze(1).movedim(1, -1)[..., 0],
        windows,
        space_to_depth,
        lambda x: F.pixel_shuffle(x, 2) + 1,
        lambda x: F.pixel_unshuffle(x, 2),
        lambda x: x[:, :, ::2, 1:][:, :, -2:, ::3],
        lambda x: x[:, -1] * x[..., 3].mean() - x[:, 0],
        lambda x: x[:, [2, 0, 3]] + x.index_select(1, torch.tensor([0, 1, 1])),
        lambda x: x[:, torch.tensor([True, False, True, True])][..., torch.tensor([-1, 0, 5])],
        lambda x: x[:, :, torch.tensor([[0], [5]]), torch.tensor([[1, 7]])],
        lambda x: torch.flip(x, [3]) + torch.roll(x, shifts=(2, -1), dims=(2, 3)),
        lambda x: torch.cat(x.chunk(3, 2)[::-1], 2) * torch.cat(x.split(3, dim=3), -1),
        lambda x: torch.stack(x.unbind(1)[1:], -1) + x.split([1, 3], 1)[1].movedim(1, 3),
        lambda x: x[:, :1].expand(-1, 3, -1, -1).repeat(1, 2, 1, 3).repeat_interleave(2, dim=2),
        lambda x: x[:, :, None] * x[:, None],
        lambda x: x.unfold(2, 2, 2).unfold(3, 3, 2).mean((2, 3)),
    ],
)
def test_axes_and_pieces(format: Format, function: Any, tmp_path: Path) -> None:
    assert error_of(Function(function), MAP, format, tmp_path) < FLOAT32_ERROR


@both
@pytest.mark.parametrize(
    "function",
    [
        lambda x: x.mean(3).mean(2),
        lambda x: x.flatten(2).mean(-1) + x.amax((2, 3)),
        lambda x: x - x.mean(),
        lambda x: x.sum(1, keepdim=True) * x.max(dim=2, keepdim=True).values + x.amin(),
        lambda x: x.std(dim=(2, 3)) + x.flatten(2).var(2, unbiased=False),
        lambda x: F.normalize(x, dim=1) + F.normalize(x, p=1, dim=2),
        lambda x: x.norm(float("inf"), dim=1) + x.norm(3, dim=1) + torch.linalg.norm(x, dim=1),
        lambda x: x.logsumexp((2, 3)) + (x / 2).prod(1).sum((1, 2))[:, None],
        lambda x: x.cumsum(2) + x.cumsum(-1),
        lambda x: torch.var_mean(x, dim=1)[1] / torch.var_mean(x, dim=1)[0],
        lambda x: F.group_norm(x.reshape(1, 4, 2, 3, 8, 1), 2) * 2,
        lambda x: x.reshape(1, 2, 2, 2, 3, 8, 1).mean((1, 3, 4)),
    ],
)
def test_reductions_over_any_axes(format: Format, function: Any, tmp_path: Path) -> None:
    assert error_of(Function(function), MAP, format, tmp_path) < FLOAT32_ERROR


def test_a_slice_of_a_slice_is_one_slice() -> None:
    (node,) = trace(Function(lambda x: x[:, :, 1:, ::2][:, :, ::2, 1:]), MAP).nodes
    assert isinstance(node, Slice)
    assert (node.begin, node.step) == ((0, 0, 1, 2), (1, 1, 2, 2))
