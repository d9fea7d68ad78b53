"""Random networks compute the same in both runtimes as in PyTorch.

``HWNAS_FUZZ_NETWORKS`` sets how many, ``HWNAS_FUZZ_SEED`` the seed of the first (``make fuzz``).
"""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pytest

from hwnas.architecture.artifact import Format
from hwnas.export.compile import compile_model
from hwnas.export.verification.metrics import relative_error
from hwnas.export.verification.run_model import file_outputs
from hwnas.export.verification.verify import torch_outputs
from tests.export.test_parity import both
from tests.support.random_networks import INPUT_SHAPE, random_network

COUNT = int(os.environ.get("HWNAS_FUZZ_NETWORKS", "40"))
FIRST = int(os.environ.get("HWNAS_FUZZ_SEED", "0"))
MAX_ERROR = 1e-3
"""A norm of values that hardly differ amplifies their rounding; a wrong element is far larger."""


@both
@pytest.mark.parametrize("seed", range(FIRST, FIRST + COUNT))
def test_a_random_network(format: Format, seed: int, tmp_path: Path) -> None:
    module = random_network(seed)
    images = np.random.default_rng(seed).normal(size=(2, *INPUT_SHAPE)).astype(np.float32)
    artifact = compile_model(module, INPUT_SHAPE, tmp_path / f"net.{format}")
    outputs, expected = file_outputs(Path(artifact.path), images), torch_outputs(module, images)
    assert relative_error(outputs, expected) < MAX_ERROR
