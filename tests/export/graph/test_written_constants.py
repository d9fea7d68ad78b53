"""Writes of values that depend on the input into constants that the network computes."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from hwnas.errors import ExportError
from hwnas.export.compile import export_module


class Cell(nn.Module):
    """A recurrent cell whose first state is a parameter."""

    def __init__(self, cell: type[nn.GRUCell | nn.LSTMCell | nn.RNNCell]) -> None:
        super().__init__()
        self.cell, self.start = cell(4, 5), nn.Parameter(torch.randn(1, 5))

    def forward(self, x: Tensor) -> Tensor:
        state = self.start.expand(len(x), -1)
        for step in x.unbind(1):
            state = self.cell(step, (state, state) if isinstance(self.cell, nn.LSTMCell) else state)
            state = state[0] if isinstance(state, tuple) else state
        return state


class Written(nn.Module):
    """Adds its input to a part of its weights, or of a copy of them."""

    def __init__(self, copies: bool) -> None:
        super().__init__()
        self.copies, self.weight = copies, nn.Parameter(torch.randn(1, 4))

    def forward(self, x: Tensor) -> Tensor:
        weight = self.weight * 2 if self.copies else self.weight.detach().view(1, 4)
        weight[:, 1:].add_(x)
        return torch.tanh(weight)


@pytest.mark.parametrize("cell", [nn.GRUCell, nn.LSTMCell, nn.RNNCell])
@pytest.mark.parametrize("name", ["net.onnx", "net.tflite"])
def test_the_first_state_of_a_cell_may_be_a_parameter(
    cell: type[nn.GRUCell | nn.LSTMCell | nn.RNNCell], name: str, tmp_path: Path
) -> None:
    artifact = export_module(Cell(cell).eval(), (3, 4), tmp_path / name)
    assert artifact.parity is not None and artifact.parity.max_relative_error < 1e-5


def test_a_computed_constant_is_written_into_and_a_parameter_is_not(tmp_path: Path) -> None:
    artifact = export_module(Written(copies=True), (3,), tmp_path / "net.onnx")
    assert artifact.parity is not None and artifact.parity.max_relative_error < 1e-5
    with pytest.raises(ExportError, match="into a tensor that the network keeps"):
        export_module(Written(copies=False), (3,), tmp_path / "other.onnx")
    assert not (tmp_path / "other.onnx").exists()
