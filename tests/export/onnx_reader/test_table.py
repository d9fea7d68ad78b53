"""The documentation lists what the table reads, and random networks survive a round trip."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pytest
import torch

from hwnas.export.compile import compile_model
from hwnas.export.onnx_reader.registry import READS
from hwnas.export.onnx_reader.table import SUBJECTS, operators
from hwnas.export.verification.metrics import relative_error
from hwnas.export.verification.run_model import file_outputs
from hwnas.networks.onnx_file import load_onnx
from tests.support.networks.onnx_files import in_onnxruntime
from tests.support.networks.random_networks import INPUT_SHAPE, random_network

DOCS = Path(__file__).parents[3] / "docs" / "export.md"
COUNT = int(os.environ.get("HWNAS_FUZZ_NETWORKS", "20"))
FIRST = int(os.environ.get("HWNAS_FUZZ_SEED", "0"))
MAX_ERROR = 1e-3


def test_every_operator_belongs_to_a_subject() -> None:
    assert sorted(op for subject in SUBJECTS for op in operators(subject)) == sorted(READS)


@pytest.mark.parametrize("subject", SUBJECTS)
def test_the_documentation_lists_the_operators_of_the_table(subject: str) -> None:
    names = " ".join(f"`{op}`" for op in operators(subject))
    assert f"| {subject} | {names} |" in DOCS.read_text(encoding="utf-8").splitlines()


@pytest.mark.parametrize("seed", range(FIRST, FIRST + COUNT))
def test_a_random_network_that_was_written_as_onnx_is_read_again(seed: int, tmp_path: Path) -> None:
    source, target = tmp_path / "net.onnx", tmp_path / "net.tflite"
    compile_model(random_network(seed), INPUT_SHAPE, source)
    network, interface = load_onnx(source)
    compile_model(network, interface, target)
    image = np.random.default_rng(seed).normal(size=(1, *INPUT_SHAPE)).astype(np.float32)
    [expected] = in_onnxruntime(source, image)
    with torch.no_grad():
        assert relative_error(network(torch.from_numpy(image)).numpy(), expected) < MAX_ERROR
    assert relative_error(file_outputs(target, image), expected) < MAX_ERROR
