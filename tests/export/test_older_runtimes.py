"""TFLite files of the compiler in older runtimes, which `make test-runtimes` installs."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from pathlib import Path
from random import Random

import numpy as np
import pytest
from torch import nn

from hwnas.architecture.architecture import Block
from hwnas.devices.worker.archive import worker_archive
from hwnas.export.compile import compile_model
from hwnas.export.verification.metrics import relative_error
from hwnas.export.verification.verify import torch_outputs
from hwnas.nn.blocks.table import block_module
from hwnas.nn.build import build
from hwnas.spaces.cells.space import searched_cells
from hwnas.spaces.grown.densenet import densenet
from hwnas.spaces.mobile.space import mobile_space
from tests.export.networks.test_cell_networks import BLOCKS
from tests.export.test_parity import FLOAT32_ERROR, randomise
from tests.support.paths import ROOT

PYTHONS = ROOT / ".venv-runtimes"
SHAPE = (3, 16, 16)


def networks() -> Iterator[tuple[str, nn.Module, tuple[int, int, int]]]:
    mobile = mobile_space(SHAPE, 10)
    for number in range(3):
        yield f"mobile-{number}", build(mobile.architecture(mobile.random(Random(number)))), SHAPE
    blocks = (
        Block("mbconv", 8, 8, 7, 1, 6, 9, "hswish", True),
        Block("mbconv", 8, 16, 5, 2, 3, 10, "relu6"),
        Block("fused_mbconv", 8, 8, 3, 1, 2, 9, "relu"),
        Block("conv", 3, 8, 3, 2, 1, 11),
        Block("logits", 16, 5, 1, 1, 1, 3),
    )
    cell_blocks = [block for block in BLOCKS if block.op not in ("add", "concat")]
    for number, block in enumerate((*blocks, *cell_blocks)):
        shape = block.in_shape
        yield f"block-{number}", block_module(block), shape
    cells = searched_cells(SHAPE, 10)
    yield "cells", build(cells.architecture(cells.random(Random(0)))), SHAPE
    dense = densenet(SHAPE, 10)
    yield "dense", build(dense.architecture(dense.random(Random(0)))), SHAPE


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Files, images, and the outputs of PyTorch for them."""
    folder = tmp_path_factory.mktemp("files")
    for name, module, shape in networks():
        randomise(module)
        images = np.random.default_rng(0).normal(0, 3, (2, *shape)).astype(np.float32)
        compile_model(module, shape, folder / f"{name}.tflite")
        np.save(folder / f"{name}.images.npy", images.transpose(0, 2, 3, 1))
        np.save(folder / f"{name}.expected.npy", torch_outputs(module, images))
    return folder


@pytest.mark.parametrize("package", ["tflite_runtime", "tensorflow"])
def test_files_compute_the_same_in_older_runtimes_as_in_pytorch(package: str, folder: Path) -> None:
    python = PYTHONS / package / "bin" / "python"
    if not python.exists():
        pytest.skip(f"no {python.relative_to(PYTHONS.parent)}: make test-runtimes")
    script = ROOT / "tests" / "support" / "machines" / "run_files.py"
    archive = folder / "worker.pyz"
    archive.write_bytes(worker_archive())
    command = [python, script, str(archive), str(folder), package]
    result = subprocess.run(command, capture_output=True, text=True, timeout=600)
    assert result.returncode == 0, result.stderr[-2000:]
    names = [path.stem for path in folder.glob("*.tflite")]
    assert len(names) > 20
    for name in names:
        expected = np.load(folder / f"{name}.expected.npy")
        outputs = np.load(folder / f"{name}.outputs.npy")
        if outputs.ndim == 4:
            outputs = outputs.transpose(0, 3, 1, 2)
        assert outputs.shape == expected.shape, name
        assert relative_error(outputs, expected) < FLOAT32_ERROR, name
