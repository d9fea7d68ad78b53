"""Where a value is stored, after any chain of reshapes and permutations."""

from __future__ import annotations

from pathlib import Path
from random import Random

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from hwnas.architecture.artifact import Format
from hwnas.export.compile import compile_model, export_module
from hwnas.export.graph.trace import trace
from hwnas.export.layout.reshape import Group, _groups  # pyright: ignore[reportPrivateUsage]
from hwnas.export.layout.rules import NCHW, NHWC, arrange
from hwnas.export.verification.run_model import file_outputs
from tests.export.test_parity import Function, both

SHAPES = ((4, 6, 6), (2, 2, 36), (144,), (4, 36), (12, 2, 6), (4, 2, 3, 6), (2, 2, 6, 2, 3))


class Moves(nn.Module):
    """A random chain of permutations, reshapes, and operations that need an order of their own."""

    def __init__(self, seed: int) -> None:
        super().__init__()
        self.seed = seed
        self.conv = nn.Conv2d(4, 4, 3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        rng = Random(self.seed)
        for _ in range(6):
            x = self._step(x, rng)
        return x.flatten(1) * 2

    def _step(self, x: Tensor, rng: Random) -> Tensor:
        match rng.choice((0, 1, 1, 2, 3, 4)):
            case 0:
                axes = list(range(1, x.dim()))
                rng.shuffle(axes)
                return x.permute(0, *axes)
            case 1:
                return x.reshape(
                    1, *rng.choice(((4, 6, 6), (2, 2, 36), (144,), (4, 36), (12, 2, 6)))
                )
            case 2:
                return x.reshape(1, *rng.choice(((4, 2, 3, 6), (2, 2, 6, 2, 3), (4, 6, 6))))
            case 3:
                return x + x.mean(rng.randrange(1, x.dim()), keepdim=True)
            case _:
                return self.conv(x.reshape(1, 4, 6, 6))


@both
@pytest.mark.parametrize("seed", range(16))
def test_random_moves_give_the_elements_of_pytorch(
    format: Format, seed: int, tmp_path: Path
) -> None:
    module = Moves(seed)
    image = np.random.default_rng(seed).normal(size=(1, 4, 6, 6)).astype(np.float32)
    artifact = compile_model(module, (4, 6, 6), tmp_path / f"net.{format}")
    with torch.no_grad():
        expected = module(torch.from_numpy(image)).numpy()
    np.testing.assert_allclose(file_outputs(Path(artifact.path), image), expected, atol=2e-5)


@both
def test_a_linear_layer_reads_a_map_whose_batch_is_not_stored_first(
    format: Format, tmp_path: Path
) -> None:
    """Rows at computed places come before the batch."""

    class Rows(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.head = nn.Linear(144, 3)

        def forward(self, x: Tensor) -> Tensor:
            return self.head(x.index_select(2, x[0, 0].mean(1).argsort()).flatten(1))

    artifact = export_module(Rows().eval(), (4, 6, 6), tmp_path / f"net.{format}")
    assert artifact.parity is not None and artifact.parity.max_relative_error < 1e-5


def test_axes_that_hold_the_same_elements_are_grouped() -> None:
    assert _groups((1, 4, 6, 6), (1, 4, 36)) == [Group((1,), (1,)), Group((2, 3), (2,))]
    assert _groups((2, 1, 6), (2, 2, 3, 1)) == [Group((0,), (0,)), Group((2,), (1, 2))]
    assert _groups((4, 6), (6, 4)) == [Group((0, 1), (0, 1))]


def test_a_permutation_is_recorded_and_moves_nothing() -> None:
    def channels_last(x: Tensor) -> Tensor:
        return (x.permute(0, 2, 3, 1) * 2).permute(0, 3, 1, 2)

    graph = trace(Function(channels_last), (4, 6, 6))
    assert arrange(graph, NCHW).transposes == arrange(graph, NHWC).transposes == 0


def test_splitting_and_merging_neighbours_moves_nothing() -> None:
    def groups(x: Tensor) -> Tensor:
        return x.view(1, 2, 2, 6, 6).amax(2).view(1, 2, 36).mean(2)

    graph = trace(Function(groups), (4, 6, 6))
    assert arrange(graph, NCHW).transposes == arrange(graph, NHWC).transposes == 0


def test_tokens_of_windows_stay_in_the_order_of_linear_layers() -> None:
    """Four axes are no feature map where norms and linear layers read the last."""

    class Windows(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.norm, self.layer = nn.LayerNorm(4), nn.Linear(4, 4)

        def forward(self, x: Tensor) -> Tensor:
            rows = x.view(1, 4, 2, 3, 2, 3).permute(0, 2, 4, 3, 5, 1).reshape(1, 4, 9, 4)
            rows = self.layer(self.norm(rows)).view(1, 2, 2, 3, 3, 4)
            return rows.permute(0, 5, 1, 3, 2, 4).reshape(1, 4, 6, 6)

    graph = trace(Windows(), (4, 6, 6))
    assert arrange(graph, NHWC).transposes == 2
