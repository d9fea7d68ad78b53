"""Programs of `torch.export` as networks."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from hwnas.errors import UsageError
from hwnas.export.compile import export_module
from hwnas.networks.user_module import load_network


class Small(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.conv, self.norm, self.head = nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.Linear(4, 2)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(torch.relu_(self.norm(self.conv(x))).mean((2, 3)))


def saved(folder: Path, batch: int = 1, **dynamic: Any) -> Path:
    torch.manual_seed(0)
    image = torch.randn(batch, 3, 8, 9)
    program = torch.export.export(Small().eval(), (image,), **dynamic)
    torch.export.save(program, folder / "net.pt2")
    return folder / "net.pt2"


@pytest.mark.parametrize("format", ["onnx", "tflite"])
def test_a_program_is_compiled_with_the_shape_that_it_states(format: str, tmp_path: Path) -> None:
    network = load_network(str(saved(tmp_path)))
    assert network.input_shape == (3, 8, 9) and network.trained
    artifact = export_module(network.module, network.input_shape, tmp_path / f"net.{format}")
    assert artifact.parity is not None and artifact.parity.max_relative_error < 1e-6


def test_free_sizes_need_a_shape(tmp_path: Path) -> None:
    sizes = {"x": {0: torch.export.Dim("n"), 2: torch.export.Dim("h", min=4)}}
    path = saved(tmp_path, batch=2, dynamic_shapes=sizes)
    with pytest.raises(UsageError, match="images of any size; expected --input-shape"):
        load_network(str(path))
    assert load_network(str(path), (3, 12, 9)).input_shape == (3, 12, 9)
    with pytest.raises(UsageError, match="not 3x12x10"):
        load_network(str(path), (3, 12, 10))


def test_other_files_and_options_are_refused(tmp_path: Path) -> None:
    path = saved(tmp_path)
    with pytest.raises(UsageError, match="takes images of shape 3x8x9, not 3x8x8"):
        load_network(str(path), (3, 8, 8))
    with pytest.raises(UsageError, match="--checkpoint cannot be combined"):
        load_network(str(path), None, path)
    (tmp_path / "other.pt2").write_bytes(b"no program")
    with pytest.raises(UsageError, match=r"other\.pt2: no program of torch\.export"):
        load_network(str(tmp_path / "other.pt2"))
    with pytest.raises(UsageError, match="no such file"):
        load_network(str(tmp_path / "missing.pt2"))
