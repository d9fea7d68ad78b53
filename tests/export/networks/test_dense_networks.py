"""Parity of plain and densely connected networks in both runtimes."""

from __future__ import annotations

from pathlib import Path

import pytest

from hwnas.architecture.architecture import Block
from hwnas.architecture.artifact import Format
from hwnas.nn.build import untrained
from tests.export.test_parity import FLOAT32_ERROR, both, error_of
from tests.nn.growth.test_transforms import DENSE, PLAIN

BLOCKS = [
    *(Block("max_pool", 6, 6, k, k, 1, size) for k, size in ((2, 9), (2, 10), (4, 9))),
    Block("global_pool", 6, 6, 1, 1, 1, 9),
    Block("bare_conv", 3, 8, 3, 1, 1, 9),
    *(Block("dense_layer", 6, 9, k, 1, 4, 9, "relu") for k in (3, 5)),
    *(Block("transition", 8, 6, 2, 2, 1, size, "relu") for size in (9, 10)),
]


@both
@pytest.mark.parametrize("block", BLOCKS, ids=lambda block: block.key)
def test_every_block_of_grown_networks(format: Format, block: Block, tmp_path: Path) -> None:
    shape = block.in_shape
    assert error_of(untrained((block,)), shape, format, tmp_path) < FLOAT32_ERROR


@both
@pytest.mark.parametrize("blocks", [PLAIN, DENSE], ids=["plain", "dense"])
def test_whole_networks(format: Format, blocks: tuple[Block, ...], tmp_path: Path) -> None:
    shape = blocks[0].in_shape
    assert error_of(untrained(blocks), shape, format, tmp_path) < FLOAT32_ERROR
