"""Matrix products, attention and recurrent layers, in both runtimes."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from hwnas.architecture.artifact import Format
from hwnas.export.graph.trace import trace
from tests.export.networks.test_cell_networks import operators
from tests.export.test_parity import FLOAT32_ERROR, Function, both, error_of

MAP = (4, 3, 5)


class Tokens(nn.Module):
    """A layer on the pixels of a map as a sequence, ``[N, L, 8]``."""

    def __init__(self, layer: nn.Module) -> None:
        super().__init__()
        self.embed, self.layer = nn.Conv2d(4, 8, 1), layer

    def forward(self, x: Tensor) -> Tensor:
        outputs = self.layer(self.embed(x).flatten(2).transpose(1, 2))
        return outputs[0] if isinstance(outputs, tuple) else outputs


class Attention(nn.Module):
    """Attention as in timm: one linear layer for query, key and value, then taken apart."""

    def __init__(self, fused: bool) -> None:
        super().__init__()
        self.qkv, self.out, self.fused = nn.Linear(8, 24, bias=False), nn.Linear(8, 8), fused

    def forward(self, x: Tensor) -> Tensor:
        batch, tokens, width = x.shape
        query, key, value = self.qkv(x).reshape(batch, tokens, 3, 2, 4).permute(2, 0, 3, 1, 4)
        if self.fused:
            mixed = F.scaled_dot_product_attention(query, key, value)
        else:
            mixed = ((query @ key.transpose(-2, -1)) * 0.5).softmax(-1) @ value
        return self.out(mixed.transpose(1, 2).reshape(batch, tokens, width))


class Mixed(nn.Module):
    """`torch.nn.MultiheadAttention`, masked, with its weights."""

    def __init__(self) -> None:
        super().__init__()
        self.mix = nn.MultiheadAttention(8, 2, batch_first=True)

    def forward(self, x: Tensor) -> Tensor:
        mask = torch.ones(15, 15, dtype=torch.bool).triu(1)
        outputs, weights = self.mix(x, x, x, attn_mask=mask)
        return torch.cat((outputs, weights), 2)


@both
@pytest.mark.parametrize(
    "make",
    [
        lambda: Tokens(Attention(fused=True)),
        lambda: Tokens(Attention(fused=False)),
        lambda: Tokens(Mixed()),
        lambda: Tokens(nn.TransformerEncoderLayer(8, 2, 16, batch_first=True)),
        lambda: Tokens(nn.LSTM(8, 3, batch_first=True)),
        lambda: Tokens(nn.GRU(8, 3, batch_first=True, bidirectional=True)),
        lambda: Function(lambda x: torch.einsum("bchw,bdhw->bcd", x, x)),
        lambda: Function(lambda x: torch.einsum("bchw,cd->bdhw", x, torch.arange(12.0).view(4, 3))),
        lambda: Function(lambda x: x.flatten(2) @ x.flatten(2).mT + torch.eye(4)),
        lambda: Function(lambda x: F.linear(x, torch.arange(10.0).view(2, 5), torch.ones(2))),
        lambda: Function(lambda x: torch.ones(2, 3) @ x @ torch.ones(5)),
        lambda: Function(
            lambda x: F.scaled_dot_product_attention(x, x, x, is_causal=True, scale=0.3)
        ),
        lambda: Function(lambda x: F.scaled_dot_product_attention(x, x, x, (x @ x.mT) > -1)),
        lambda: Function(
            lambda x: F.scaled_dot_product_attention(x, x[:, :2], x[:, :2] * 2, enable_gqa=True)
        ),
        lambda: Function(lambda x: torch.addmm(torch.ones(3), x[:, :, 0, 0], torch.ones(4, 3))),
    ],
)
def test_products(format: Format, make: Callable[[], nn.Module], tmp_path: Path) -> None:
    torch.manual_seed(0)
    assert error_of(make(), MAP, format, tmp_path) < FLOAT32_ERROR


def count(module: nn.Module, path: Path, shape: Any = MAP) -> int:
    return operators(trace(module, shape), path).count("TRANSPOSE")


def test_attention_moves_query_key_and_value_at_once_and_the_result_in_tflite(
    tmp_path: Path,
) -> None:
    assert count(Tokens(Attention(fused=False)), tmp_path / "net.tflite") == 2


def test_the_pixels_of_a_map_are_a_sequence_without_a_move_in_tflite(tmp_path: Path) -> None:
    assert count(Tokens(nn.Linear(8, 5)), tmp_path / "net.tflite") == 0
