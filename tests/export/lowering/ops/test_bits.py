"""Bitwise operations on integers give the integers that PyTorch gives."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from hwnas.architecture.artifact import Format
from hwnas.export.compile import compile_model
from hwnas.export.verification.run_model import run_file
from tests.export.test_parity import both

NUMBERS = [0, 1, 2, 3, 5, 7, 100, 255, 256, 4095, 65535, 2**20 + 3, -1, -2, -7, -256, -(2**20)]
OTHERS = [7, 6, 3, 1, 12, 255, -1, -8, 300, 170, 2**16, 2**21 - 1, 9, -2, 1, 128, -(2**19)]


class Pair(nn.Module):
    def __init__(self, function: Any) -> None:
        super().__init__()
        self.function = function

    def forward(self, a: Tensor, b: Tensor) -> Tensor:
        return self.function(a, b)


def outputs(function: Any, a: np.ndarray, b: np.ndarray, path: Path) -> np.ndarray:
    kind = f"{a.shape[1]}:{a.dtype}"
    compile_model(Pair(function), {"a": kind, "b": kind}, path)
    return run_file(path, [a, b], ("a", "b"))["logits"][:, 0]


@both
@pytest.mark.parametrize(
    "function",
    [
        lambda a, b: a & b,
        lambda a, b: a | b,
        lambda a, b: a ^ b,
        lambda a, b: ~a + b,
        lambda a, b: (a & 12) | (b & torch.tensor(3)),
        lambda a, b: (a >> 3) + (b << 2),
        lambda a, b: (a >> torch.tensor([1, 2, 4, 0] * 4 + [5])) + b,
        lambda a, b: (a % 16) >> (b & 3),
    ],
)
def test_numbers(format: Format, function: Any, tmp_path: Path) -> None:
    a, b = (np.array([numbers], np.int64) for numbers in (NUMBERS, OTHERS))
    expected = function(torch.from_numpy(a), torch.from_numpy(b)).numpy()
    np.testing.assert_array_equal(outputs(function, a, b, tmp_path / f"net.{format}"), expected)


@both
@pytest.mark.parametrize(
    "function", [lambda a, b: a & b, lambda a, b: ~a ^ b, lambda a, b: (a << 3) | (b >> 1)]
)
def test_bytes(format: Format, function: Any, tmp_path: Path) -> None:
    a, b = np.random.default_rng(0).integers(0, 256, (2, 1, 40)).astype(np.uint8)
    expected = function(torch.from_numpy(a), torch.from_numpy(b)).numpy()
    np.testing.assert_array_equal(outputs(function, a, b, tmp_path / f"net.{format}"), expected)
