"""Outputs that follow from decisions between values that are equal up to rounding."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from hwnas.architecture.artifact import Format
from hwnas.errors import ExportError
from hwnas.export.compile import compile_model
from hwnas.export.verification.images import Verification
from hwnas.export.verification.verify import verify
from tests.export.test_parity import both

SHAPE = (3, 4, 4)


class Decided(nn.Module):
    """A decision on values that are shifted a little, and what follows from it."""

    def __init__(self, decide: Callable[[Decided, Tensor], Tensor], shift: float = 0.0) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.decide, self.rows, self.mix = decide, nn.Embedding(3, 5), nn.Conv2d(3, 3, 1)
        self.shift = nn.Parameter(shift * torch.tensor([-1.0, 1.0, 0.0]).view(3, 1, 1))

    def forward(self, x: Tensor) -> Tensor:
        return self.decide(self, x + self.shift)


def rows_of_the_largest(network: Decided, x: Tensor) -> Tensor:
    return network.rows(x.argmax(1)) * 2


def number_of_the_largest(network: Decided, x: Tensor) -> Tensor:
    return x.max(1)[1].float() + 1


def order(network: Decided, x: Tensor) -> Tensor:
    return x.flatten(2).mean(2).topk(2)[1].float()


def mask(network: Decided, x: Tensor) -> Tensor:
    return network.mix((x > 0.5).float())


def rounded(network: Decided, x: Tensor) -> Tensor:
    return network.mix(x.round())


def twice(network: Decided, x: Tensor) -> Tensor:
    """The second decision is one between values that the first decides on."""
    largest = x.argmax(1, keepdim=True).float()
    return network.mix(x * (largest + x > 1.5).float())


DECISIONS = [rows_of_the_largest, number_of_the_largest, order, mask, rounded, twice]


def images(gap: float) -> np.ndarray:
    """Return images whose first two channels are ``gap`` above and below 0.5, but for the first."""
    noise = np.random.default_rng(0).uniform(-1, 0.4, (3, *SHAPE)).astype(np.float32)
    noise[1:, 0], noise[1:, 1] = 0.5 + gap, 0.5 - gap
    return noise


def compared(
    decide: Callable[[Decided, Tensor], Tensor], shift: float, path: Path, *, gap: float
) -> None:
    """Compare the file of a shifted network with the one that is not shifted."""
    compile_model(Decided(decide, shift).eval(), SHAPE, path)
    verify(path, Decided(decide).eval(), Verification(images(gap)))


@both
@pytest.mark.parametrize("decide", DECISIONS)
def test_a_file_may_decide_otherwise_between_equal_values(
    format: Format, decide: Callable[[Decided, Tensor], Tensor], tmp_path: Path
) -> None:
    compared(decide, 1e-6, tmp_path / f"net.{format}", gap=0.0)


@both
@pytest.mark.parametrize("decide", DECISIONS)
def test_a_file_that_decides_otherwise_between_other_values_is_refused(
    format: Format, decide: Callable[[Decided, Tensor], Tensor], tmp_path: Path
) -> None:
    with pytest.raises(ExportError, match="differs from PyTorch"):
        compared(decide, 0.06, tmp_path / f"net.{format}", gap=0.02)


@both
def test_what_follows_from_an_equal_decision_is_compared(format: Format, tmp_path: Path) -> None:
    path = tmp_path / f"net.{format}"
    network = Decided(rows_of_the_largest, 1e-6).eval()
    with torch.no_grad():
        network.rows.weight[1] += 0.1
    compile_model(network, SHAPE, path)
    with pytest.raises(ExportError, match="differs from PyTorch"):
        verify(path, Decided(rows_of_the_largest).eval(), Verification(images(0.0)))
