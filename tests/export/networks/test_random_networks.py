"""Random networks compute the same in both runtimes as in PyTorch (``make fuzz``: thousands)."""

from __future__ import annotations

import copy
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from hwnas.architecture.artifact import Format
from tests.export.test_parity import both
from tests.support.networks.random_networks import MAX_ERROR, file_error, random_network
from tests.support.networks.rounding import RoundedArithmetic

FAILED = (2864, 9719, 18632)
"""Seeds whose files were refused or different: resizes behind a change of the order of axes, and a
group norm of a constant map."""


@both
@pytest.mark.parametrize("seed", (*range(40), *FAILED))
def test_a_random_network(format: Format, seed: int, tmp_path: Path) -> None:
    assert file_error(random_network(seed), seed, format, tmp_path) < MAX_ERROR


def test_the_norm_of_a_constant_map_is_rounding_and_that_of_noise_is_not() -> None:
    torch.manual_seed(0)
    norm, noise = nn.GroupNorm(1, 2), torch.randn(1, 2, 40, 40)

    def change(image: Tensor) -> float:
        """Return the largest change by rounding, in float32, of a result of about 1."""
        with torch.no_grad(), RoundedArithmetic(seed=0):
            rounded = norm(image)
        exact = copy.deepcopy(norm).double()(image.double())
        return (rounded - exact).abs().max().item()

    assert change(noise) < 1e-5
    assert change(torch.full_like(noise, 0.3)) > 20 * change(noise)
