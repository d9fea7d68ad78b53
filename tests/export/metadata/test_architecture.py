"""The architecture inside a model file: what is read is what was written."""

from __future__ import annotations

from pathlib import Path

import msgspec
import pytest

from hwnas.architecture.architecture import Architecture, Block, Genotype
from hwnas.architecture.artifact import Format
from hwnas.export.compile import compile_model
from hwnas.export.metadata.architecture import architecture_metadata, read_embedded
from hwnas.nn.build import build
from tests.export.test_parity import both

BLOCKS = (
    Block("conv", 3, 8, 3, 2, 1, 8, "silu", padding="same"),
    Block("mbconv", 8, 8, 3, 1, 3, 4, "silu", True, gate="sigmoid", squeezed=2),
    Block("hidden", 8, 8, 1, 1, 1, 4, "hswish"),
    Block("logits", 8, 5, 1, 1, 1, 1),
)


@both
@pytest.mark.parametrize("norm_eps", [1e-5, 1e-3])
def test_a_file_has_its_architecture(norm_eps: float, format: Format, tmp_path: Path) -> None:
    architecture = Architecture(Genotype("", ()), BLOCKS, (3, 8, 8), 5, norm_eps=norm_eps)
    path = tmp_path / f"model.{format}"
    compile_model(build(architecture), (3, 8, 8), path, architecture=architecture)
    assert read_embedded(path) == architecture


def test_the_default_epsilon_is_not_written() -> None:
    architecture = Architecture(Genotype("", ()), BLOCKS, (3, 8, 8), 5)
    read = msgspec.json.decode(msgspec.json.encode(architecture), type=Architecture)
    for each in (architecture, read):
        [content] = architecture_metadata(each).values()
        assert b"eps" not in content
