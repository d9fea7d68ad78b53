"""Random networks compute the same in both runtimes as in PyTorch (``make fuzz``: thousands)."""

from __future__ import annotations

from pathlib import Path

import pytest

from hwnas.architecture.artifact import Format
from tests.export.test_parity import both
from tests.support.networks.random_networks import MAX_ERROR, file_error, random_network


@both
@pytest.mark.parametrize("seed", range(40))
def test_a_random_network(format: Format, seed: int, tmp_path: Path) -> None:
    assert file_error(random_network(seed), seed, format, tmp_path) < MAX_ERROR
