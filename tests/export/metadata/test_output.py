"""Whether a file gives logits or probabilities is read from its last operations."""

from __future__ import annotations

from pathlib import Path

import pytest
from torch import nn

from hwnas.architecture.artifact import Format
from hwnas.errors import InvalidFile
from hwnas.export.compile import export_module
from hwnas.export.metadata.output import gives_probabilities
from tests.support.data import colours

FORMATS = pytest.mark.parametrize("format", ["onnx", "tflite"])


@FORMATS
def test_a_softmax_at_the_end_gives_probabilities(tmp_path: Path, format: Format) -> None:
    file = colours.foreign_file(tmp_path / f"net.{format}", softmax=True)
    assert gives_probabilities(file)


@FORMATS
def test_a_softmax_before_the_end_does_not(tmp_path: Path, format: Format) -> None:
    module = nn.Sequential(colours.MeanColour(softmax=True), nn.Linear(3, 4)).eval()
    export_module(module, colours.SHAPE, tmp_path / f"net.{format}")
    assert not gives_probabilities(tmp_path / f"net.{format}")


@FORMATS
@pytest.mark.parametrize("softmax", [False, True])
def test_the_types_of_an_int8_file_are_looked_through(
    tmp_path: Path, format: Format, softmax: bool
) -> None:
    pytest.importorskip("ai_edge_quantizer")
    file = colours.foreign_file(tmp_path / f"net.{format}", softmax=softmax, int8=True)
    assert gives_probabilities(file) == softmax


def test_a_damaged_file_is_an_error(tmp_path: Path) -> None:
    file = colours.foreign_file(tmp_path / "net.tflite")
    file.write_bytes(file.read_bytes()[:40])
    with pytest.raises(InvalidFile, match=r"net\.tflite: not a readable \.tflite model"):
        gives_probabilities(file)
